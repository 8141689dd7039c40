//! `info`: what an executable is.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::write_json;
use crate::{Compiled, Fault};

/// Show what this is
#[derive(Args, Clone, Debug, Default)]
pub struct InfoArgs {
    /// Print the plan instead: what runs in which order on which memory
    #[arg(long, conflicts_with_all = ["graph", "spec", "json"])]
    pub plan: bool,
    /// Print the graph instead
    #[arg(long, conflicts_with_all = ["spec", "json"])]
    pub graph: bool,
    /// Print the spec instead
    #[arg(long, conflicts_with = "json")]
    pub spec: bool,
    /// Compare every byte with the digests first
    #[arg(long)]
    pub check: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

impl InfoArgs {
    /// Does it.
    pub fn execute(&self, model: &Compiled, out: &mut dyn Write) -> Result<(), Fault> {
        if let (Compiled::File(container), true) = (model, self.check) {
            container.check()?;
        }
        let manifest = model.manifest();
        let text = match (self.plan, self.graph, self.spec) {
            (true, _, _) => &manifest.program.plan,
            (_, true, _) => &manifest.program.graph,
            (_, _, true) => &manifest.spec,
            _ => return write_info(model, out, self.json),
        };
        Ok(writeln!(out, "{}", text.trim_end())?)
    }
}

fn write_info(model: &Compiled, out: &mut dyn Write, as_json: bool) -> Result<(), Fault> {
    let manifest = model.manifest();
    let program = &manifest.program;
    let digest = match model {
        Compiled::File(container) => Some(container.digest()),
        Compiled::Memory { .. } => None,
    };
    let state_bytes = program.states.iter().map(|it| it.position_bytes.saturating_mul(it.banks));
    let info = json!({
        "model": program.name,
        "target": program.target.to_string(),
        "parameters": manifest.costs.parameters,
        "weight_bytes": model.weight_bytes(),
        "step_bytes": manifest.costs.step_bytes,
        "vocabulary": program.vocabulary,
        "context": program.capacity(),
        "state_bytes_per_token": state_bytes.fold(0, u64::saturating_add),
        "arena_bytes": program.arena_bytes,
        "kernels": program.kernels,
        "tokenizer": manifest.tokenizer.is_some(),
        "chat_template": manifest.chat_template.is_some(),
        "made_by": manifest.made_by,
        "digest": digest,
    });
    if as_json {
        return write_json(out, &info);
    }
    for (name, value) in info.as_object().into_iter().flatten() {
        writeln!(out, "{:<22} {}", name.replace('_', " "), plain(value))?;
    }
    Ok(())
}

/// A value as people write it.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "none".into(),
        serde_json::Value::Bool(value) => (if *value { "yes" } else { "no" }).into(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        number => number.to_string(),
    }
}
