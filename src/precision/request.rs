//! What a user asks for: `nvfp4,fp8-row,budget=5bpw,keep=layers.attention.*`.

use frontend::fits;
use ir::storage::Encoding;

use super::fitting;
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
                None => request.read(word)?,
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
            return Err(unreadable(text, why));
        }
        Ok(request)
    }

    fn read(&mut self, word: &str) -> Result<(), Error> {
        let number = |text: &str| {
            let number = text.trim().parse::<f64>().ok();
            number.filter(|it| it.is_finite() && 0.0 <= *it).ok_or_else(|| unknown(word))
        };
        if let Some(bound) = word.strip_prefix("kl<=") {
            self.kl = Some(number(bound)?);
        } else if let Some((key, value)) = word.split_once('=') {
            match key.trim() {
                "budget" => self.budget = Some(number(value.trim_end_matches("bpw"))?),
                "keep" => self.keep.push(value.to_owned()),
                "also" => self.also.push(value.to_owned()),
                "round" => self.rounding = Some(rounding(value).ok_or_else(|| unknown(word))?),
                "tokens" => self.tokens = Some(value.parse().map_err(|_| unknown(word))?),
                "first" => self.first = end(value).ok_or_else(|| unknown(word))?,
                "last" => self.last = end(value).ok_or_else(|| unknown(word))?,
                _ => return Err(unknown(word)),
            }
        } else {
            self.formats.push(Encoding::from_name(word).ok_or_else(|| unknown(word))?);
        }
        Ok(())
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
            return Some(format!("one of the first {first} layers"));
        }
        (layers <= layer.saturating_add(last)).then(|| format!("one of the last {last} layers"))
    }
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
        Some(percent) => Some(End { layers: 0, percent: percent.parse().ok()? }),
        None => Some(End { layers: text.parse().ok()?, percent: 0 }),
    }
}

fn unknown(word: &str) -> Error {
    let names: Vec<&str> = Encoding::names().chain(PRESETS.iter().map(|it| it.name)).collect();
    Error::new("C0307", format!("`{word}` is no part of a precision")).help(format!(
        "there is {}, budget=, kl<=, keep=, also=, first=, last=, round=, tokens=",
        names.join(", ")
    ))
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
        ] {
            assert!(Request::parse(text).is_err(), "{text}");
        }
        assert_eq!(Request::parse("kl<=0.01").unwrap().formats.len(), 2);
        assert_eq!(Request::parse("nvfp4,budget=4.5bpw").unwrap().budget, Some(4.5));
    }
}
