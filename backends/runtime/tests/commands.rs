//! The commands of a compiled model, on one in memory.

mod support;

use std::sync::Arc;

use clap::{CommandFactory, Parser};
use runtime::commands::Command;
use runtime::{Compiled, Fault, Manifest, Pages};
use serde_json::Value;
use support::{WEIGHTS, manifest};
use text::{Merges, ModelSpec, TokenizerSpec, Vocab};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// A token for each letter from `a` to `j`.
fn letters(stops: &[u32]) -> TokenizerSpec {
    TokenizerSpec {
        vocab: Vocab::new(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]).unwrap(),
        model: ModelSpec::Bpe {
            merges: Merges::default(),
            byte_fallback: false,
            ignore_merges: false,
            unknown: None,
            fuse_unknown: false,
        },
        added: Vec::new(),
        normalizer: None,
        pre_tokenizer: None,
        decoder: Some(r#"{"type": "Fuse"}"#.into()),
        prefix: Vec::new(),
        suffix: Vec::new(),
        bos: None,
        eos: None,
        stops: stops.to_vec(),
    }
}

/// Prefers `a` whatever it reads.
fn model(stops: &[u32], chat_template: Option<&str>) -> Compiled {
    let tokenizer = Some(letters(stops));
    let chat_template = chat_template.map(str::to_owned);
    let manifest = Manifest { tokenizer, chat_template, ..manifest() };
    Compiled::Memory { manifest, weights: Arc::new(Pages::copy_of(WEIGHTS).unwrap()) }
}

fn obey(model: &Compiled, line: &str) -> Result<String, Fault> {
    let mut out = Vec::new();
    let words = std::iter::once("model").chain(line.split_whitespace());
    Line::try_parse_from(words).expect(line).command.execute(model, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn json(model: &Compiled, line: &str) -> Value {
    serde_json::from_str(&obey(model, line).unwrap()).unwrap()
}

#[test]
fn the_command_line_is_consistent() {
    Line::command().debug_assert();
}

#[test]
fn run_continues_a_text() {
    let model = model(&[], None);
    assert_eq!(obey(&model, "run -p bcd -n 4 -t 1").unwrap(), "aaaa\n");
    assert_eq!(obey(&model, "run -p -b -n 2 -t 1").unwrap(), "aa\n");
    let report = json(&model, "run -p bcd -n 4 -t 2 --json --seed 3");
    assert_eq!(report["text"], "aaaa");
    assert_eq!(report["ending"], "limit");
    assert_eq!((&report["prompt_tokens"], &report["generated_tokens"]), (&3.into(), &4.into()));
}

#[test]
fn run_ends_where_it_should() {
    assert_eq!(json(&model(&[0], None), "run -p b -n 4 -t 1 --json")["ending"], "stop");
    assert_eq!(json(&model(&[], None), "run -p b -n 0 -t 1 --json")["text"], "");
    let fault = obey(&model(&[], None), "run -p bcd -n 4 -t 1 --context 9").unwrap_err();
    assert_eq!(fault.code, "R0302");
    assert_eq!(obey(&model(&[], None), "run -p bcd --temp=-1 -t 1").unwrap_err().code, "R0603");
    assert_eq!(obey(&model(&[], None), "run -p ? -t 1").unwrap_err().code, "R0602");
}

#[test]
fn run_uses_the_chat_template_when_told_to() {
    let template = "bb{{ messages[0].content }}";
    let tokens = |line: &str| json(&model(&[], Some(template)), line)["prompt_tokens"].clone();
    assert_eq!(tokens("run -p c -n 1 -t 1 --json --chat"), 3);
    assert_eq!(tokens("run -p c -n 1 -t 1 --json"), 1);
    let fault = obey(&model(&[], None), "run -p c --chat -t 1").unwrap_err();
    assert_eq!(fault.code, "R0602");
}

#[test]
fn a_model_without_tokenizer_cannot_run_but_be_measured() {
    let weights = Arc::new(Pages::copy_of(WEIGHTS).unwrap());
    let model = Compiled::Memory { manifest: manifest(), weights };
    assert_eq!(obey(&model, "run -p b").unwrap_err().code, "R0601");
    let report = json(&model, "bench -p 4 -n 2 -r 2 -t 2 --json");
    let number = |key: &str| report[key].as_f64().unwrap();
    assert!(0.0 < number("prompt_tokens_per_s") && 0.0 < number("generate_tokens_per_s"));
    assert!(0.0 < number("bandwidth_gb_per_s") && 0.0 < number("peak_gflops"));
    assert_eq!(report["prompt_tokens_per_s_all"].as_array().unwrap().len(), 2);
    assert!(report.get("first_token_ms").is_none());
    assert!(obey(&model, "bench -p 4 -n 2 -r 1 -t 1").unwrap().contains("read        4 tokens"));
    assert_eq!(obey(&model, "bench -p 0").unwrap_err().code, "R0603");
}

#[test]
fn info_tells_what_it_is() {
    let model = model(&[], None);
    assert_eq!(obey(&model, "info --spec").unwrap(), "model tiny() {}\n");
    let info = json(&model, "info --json");
    assert_eq!((&info["model"], &info["vocabulary"]), (&"tiny".into(), &10.into()));
    assert!(obey(&model, "info").unwrap().contains("weight bytes           1000"));
}
