//! What a user asks for: `nvfp4,fp8-row,budget=5bpw,keep=layers.attention.*`.

use frontend::{fits, nearest};
use ir::storage::Encoding;

use super::{Assignment, Contraction, fitting};
use crate::Error;

/// A published way to store a model, by name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it stands for.
    pub request: &'static str,
    /// Where it comes from.
    pub about: &'static str,
}

/// The presets. Layers are counted as the model's pattern does.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "nano2-fp8",
        request: "fp8-block-pow2,first=2,last=2",
        about: "Nemotron Nano 2: 128 x 128 blocks of E4M3; two layers at either end stay",
    },
    Preset {
        name: "nemotron-h-fp8",
        request: "fp8,first=2,last=2",
        about: "Nemotron-H 56B: a scale for each matrix; two layers at either end stay",
    },
    Preset {
        name: "nemotron4-340b-fp8",
        request: "fp8",
        about: "Nemotron-4 340B on eight GPUs: all products within layers, a scale for each matrix",
    },
    Preset {
        name: "nvfp4-12b",
        request: "nvfp4-16x16,first=2,last=8",
        about: "NVFP4 training of the 12B hybrid: two layers first and eight last stay",
    },
    Preset {
        name: "nvfp4-8b",
        request: "nvfp4-16x16,last=8",
        about: "NVFP4 training of the 8B hybrid: eight layers last stay",
    },
    Preset {
        name: "nvfp4-recipe",
        request: "nvfp4-16x16,first=3%,last=13%",
        about: "the same shares of any depth: 3 % of layers first and 13 % last stay",
    },
    Preset {
        name: "modelopt-fp8",
        request: "fp8,keep=*.attention.*",
        about: "a scale for each matrix; attention and convolutions stay, as in ModelOpt's hybrids",
    },
];

/// Layers at an end of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct End {
    layers: usize,
    percent: usize,
}

impl End {
    fn of(self, all: usize) -> usize {
        self.layers.saturating_add((all.saturating_mul(self.percent) + 50) / 100)
    }
}

/// How numbers become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Each by itself.
    Nearest,
    /// Such that what a matrix gives for the calibration text changes least.
    Calibrated,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// As it was written.
    pub text: String,
    /// The formats to choose from.
    pub formats: Vec<Encoding>,
    /// Bits for an element of all weights that may be stored anew, at most.
    pub budget: Option<f64>,
    /// Divergence on the calibration text, at most.
    pub kl: Option<f64>,
    /// How numbers become codes, if it is said.
    pub rounding: Option<Rounding>,
    /// So many tokens of the calibration text for calibrated rounding, if it is said.
    pub tokens: Option<usize>,
    /// Parameters that stay.
    keep: Vec<String>,
    /// Parameters outside layers that do not stay.
    also: Vec<String>,
    /// Patterns that the user wrote: each has to fit something, unlike those of presets.
    written: Vec<String>,
    first: End,
    last: End,
}

impl Request {
    /// Reads formats, `budget=4.5bpw`, `kl<=0.01`, `keep=GLOB`, `also=GLOB`, `first=N` and `last=N`
    /// (layers at an end that stay, or a share such as `10%`), `round=nearest` or `calibrated` and
    /// `tokens=N`, or the name of a preset and more.
    ///
    /// # Errors
    ///
    /// What can not be read.
    pub fn parse(text: &str) -> Result<Request, Error> {
        let mut request = Request { text: text.into(), ..Request::default() };
        for word in text.split(',').map(str::trim) {
            match PRESETS.iter().find(|it| it.name == word) {
                Some(preset) => {
                    preset.request.split(',').try_for_each(|it| request.read(it))?;
                }
                None => {
                    request.read(word)?;
                    request.written.extend(pattern(word).map(str::to_owned));
                }
            }
        }
        if request.formats.is_empty() {
            if request.kl.is_none() {
                return Err(unreadable(text, "names no format"));
            }
            let usual = ["nvfp4", "fp8-row"].iter().filter_map(|it| Encoding::from_name(it));
            request.formats.extend(usual);
        }
        let is_choice = request.budget.is_some() || request.kl.is_some();
        if 1 < request.formats.len() && !is_choice {
            let why = "names several formats, but neither `budget=` nor `kl<=` to choose by";
            return Err(unreadable(text, why).help("name one, or add `budget=5bpw` or `kl<=0.01`"));
        }
        Ok(request)
    }

    fn read(&mut self, word: &str) -> Result<(), Error> {
        let Some((key, value)) = word.split_once('=') else {
            self.formats.push(Encoding::from_name(word).ok_or_else(|| unknown(word))?);
            return Ok(());
        };
        let value = value.trim();
        let no = |wanted: &str| Error::new("C0307", format!("`{word}`: `{value}` is not {wanted}"));
        match key.trim_end() {
            "kl<" | "kl <" => self.kl = Some(number(value).ok_or_else(|| no(DIVERGENCE))?),
            "budget" => {
                let bits = number(value.trim_end_matches("bpw"));
                self.budget = Some(bits.ok_or_else(|| no(BITS))?);
            }
            "keep" => self.keep.push(value.to_owned()),
            "also" => self.also.push(value.to_owned()),
            "round" => self.rounding = Some(rounding(value).ok_or_else(|| no(ROUNDINGS))?),
            "tokens" => {
                let tokens = value.parse().ok().filter(|it| 0 < *it);
                self.tokens = Some(tokens.ok_or_else(|| no(TOKENS))?);
            }
            "first" => self.first = end(value).ok_or_else(|| no(LAYERS))?,
            "last" => self.last = end(value).ok_or_else(|| no(LAYERS))?,
            _ => return Err(unknown(word)),
        }
        Ok(())
    }

    /// Compares the request with the weights that there are.
    ///
    /// # Errors
    ///
    /// When a pattern fits no weight, or nothing would be stored anew.
    pub fn check(&self, contractions: &[Contraction]) -> Result<(), Error> {
        let names = || contractions.iter().map(|it| it.param.as_str());
        if let Some(pattern) = self.written.iter().find(|it| !names().any(|name| fits(it, name))) {
            let message = format!("`{pattern}` fits no weight that products are made with");
            let all = names().collect::<Vec<_>>().join(", ");
            return Err(Error::new("C0307", message).help(format!("there is {all}")));
        }
        let may_change = self.formats.iter().any(|it| {
            let alone = Request { formats: vec![*it], ..self.clone() };
            !Assignment::uniform(&alone, contractions).formats.0.is_empty()
        });
        if may_change {
            return Ok(());
        }
        let all = Assignment::uniform(self, contractions).reasons;
        let within = all.iter().find(|it| it.0.contains('.')).or(all.first());
        let stays = within.and_then(|(param, why)| Some((param, why.first()?)));
        let why = stays.map_or("there is none".to_owned(), |it| format!("`{}`: {}", it.0, it.1));
        Err(unreadable(&self.text, "changes no weight").help(why))
    }

    /// Whether the choice needs calibration text.
    pub fn is_measured(&self) -> bool {
        self.budget.is_some() || self.kl.is_some()
    }

    /// The format of a parameter in a layer, of so many, if it is stored anew and nothing is
    /// measured.
    pub fn of(&self, param: &str, layer: usize, layers: usize, columns: usize) -> Option<Encoding> {
        let is_open = self.keeps(param, layer, layers).is_none();
        fitting(self.formats.first().copied().filter(|_| is_open), columns).ok().flatten()
    }

    /// Why a parameter stays in a layer, of so many, if it does.
    pub(super) fn keeps(&self, param: &str, layer: usize, layers: usize) -> Option<String> {
        if let Some(glob) = self.keep.iter().find(|it| fits(it, param)) {
            return Some(format!("keep={glob}"));
        }
        // What no block holds is an embedding or a head.
        if !param.contains('.') {
            let is_asked = self.also.iter().any(|it| fits(it, param));
            return (!is_asked).then(|| "outside the layers".to_owned());
        }
        let (first, last) = (self.first.of(layers), self.last.of(layers));
        if layer < first {
            return Some(one_of(first, "first"));
        }
        (layers <= layer.saturating_add(last)).then(|| one_of(last, "last"))
    }
}

const DIVERGENCE: &str = "a divergence, in nats a token";
const BITS: &str = "a number of bits, such as `4.5bpw`";
const ROUNDINGS: &str = "`nearest` or `calibrated`";
const TOKENS: &str = "a number of tokens";
const LAYERS: &str = "a number of layers or a share of them, such as `10%`";

/// A layer at an end where `n` stay.
fn one_of(n: usize, end: &str) -> String {
    if n == 1 { format!("the {end} layer") } else { format!("one of the {end} {n} layers") }
}

/// The pattern of parameters in a word, if it has one.
fn pattern(word: &str) -> Option<&str> {
    let (key, pattern) = word.split_once('=')?;
    matches!(key.trim_end(), "keep" | "also").then(|| pattern.trim())
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|it: &f64| it.is_finite() && 0.0 <= *it)
}

fn rounding(text: &str) -> Option<Rounding> {
    match text {
        "nearest" => Some(Rounding::Nearest),
        "calibrated" => Some(Rounding::Calibrated),
        _ => None,
    }
}

fn end(text: &str) -> Option<End> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.parse().ok().filter(|it| *it <= 100)?;
            Some(End { layers: 0, percent })
        }
        None => Some(End { layers: text.parse().ok()?, percent: 0 }),
    }
}

/// What stands before a value.
const KEYS: [&str; 8] =
    ["budget=", "kl<=", "keep=", "also=", "first=", "last=", "round=", "tokens="];

fn unknown(word: &str) -> Error {
    let names: Vec<&str> = Encoding::names().chain(PRESETS.iter().map(|it| it.name)).collect();
    let all = || format!("there is {}, {}", names.join(", "), KEYS.join(", "));
    let near = nearest(word, names.iter().copied().chain(KEYS));
    Error::new("C0307", format!("`{word}` is no part of a precision"))
        .help(near.map_or_else(all, |it| format!("did you mean `{it}`?")))
}

fn unreadable(text: &str, why: &str) -> Error {
    Error::new("C0307", format!("the precision `{text}` {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_can_be_read() {
        for preset in PRESETS {
            let request = Request::parse(preset.name).unwrap();
            assert!(!request.is_measured() && request.formats.len() == 1);
        }
    }

    #[test]
    fn ends_stay() {
        let request = Request::parse("nvfp4-12b").unwrap();
        let stays = |layer| request.keeps("layers.mlp.up", layer, 62).is_some();
        assert_eq!((0..62).filter(|it| stays(*it)).count(), 10);
        assert!(stays(1) && !stays(2) && !stays(53) && stays(54));
        let request = Request::parse("nvfp4-recipe").unwrap();
        let count = |n| (0..n).filter(|it| request.keeps("a.b", *it, n).is_some()).count();
        assert_eq!((count(62), count(30)), (10, 5));
    }

    #[test]
    fn what_is_outside_layers_stays_unless_asked_for() {
        let request = Request::parse("q8_0,also=head,keep=*.down").unwrap();
        assert!(request.keeps("embed", 0, 4).is_some());
        assert_eq!(request.keeps("head", 0, 4), None);
        assert!(request.keeps("layers.mlp.down", 0, 4).is_some());
        assert_eq!(request.keeps("layers.mlp.up", 3, 4), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "fp9",
            "nvfp4,fp8",
            "budget=4",
            "nvfp4,budget=x",
            "kl<=nan",
            "nvfp4,a=b",
            "nvfp4,round=up",
            "nvfp4,tokens=0",
            "nvfp4,first=-1",
            "nvfp4,last=101%",
        ] {
            assert!(Request::parse(text).is_err(), "{text}");
        }
        let near = Request::parse("nvpf4").unwrap_err().to_string();
        assert!(near.contains("did you mean `nvfp4`?"), "{near}");
        let value = Request::parse("kl <= -1").unwrap_err().to_string();
        assert!(value.contains("`-1` is not a divergence"), "{value}");
        assert_eq!(Request::parse("kl<=0.01").unwrap().formats.len(), 2);
        assert_eq!(Request::parse("nvfp4,budget=4.5bpw").unwrap().budget, Some(4.5));
    }

    #[test]
    fn what_would_change_nothing_is_refused() {
        let of = |param: &str| Contraction {
            param: param.into(),
            layers: (0..4).collect(),
            elements: 40,
            columns: 40,
        };
        let contractions = [of("embed"), of("layers.mlp.up")];
        let outcome = |text: &str| Request::parse(text).unwrap().check(&contractions);
        for text in ["fp8", "fp8-block", "nvfp4,fp8,kl<=0", "modelopt-fp8", "fp8,also=embed"] {
            assert!(outcome(text).is_ok(), "{text}");
        }
        for (text, why) in [
            ("fp8,keep=layers.mpl.*", "`layers.mpl.*` fits no weight"),
            ("fp8,also=head", "there is embed, layers.mlp.up"),
            ("nvfp4", "`layers.mlp.up`: rows of 40 are no whole blocks of 16"),
            ("fp8,first=4", "`layers.mlp.up`: one of the first 4 layers"),
        ] {
            let found = outcome(text).unwrap_err().to_string();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
