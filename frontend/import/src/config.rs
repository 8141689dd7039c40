//! A checkpoint's configuration, read so that nothing in it is overlooked.
//!
//! An importer that ignores a key it does not know builds a model that is silently wrong. So a
//! [`Config`] remembers what was asked for, and [`Config::finish`] refuses what was not, unless
//! the key is known to change nothing about the numbers (`harmless.txt`).

use crate::checkpoint::{Checkpoint, Metadata};
use crate::error::Error;
use crate::gguf::Value;
use crate::quantised;
use serde_json::Map as Json;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Keys of `config.json` that say nothing about the model's numbers, one a line.
const HARMLESS: &str = include_str!("harmless.txt");

/// A view of one family's settings.
pub struct Config<'a> {
    source: Source<'a>,
    /// Names the settings in an error, as in `rope_scaling.` or `llama.`.
    prefix: String,
    read: RefCell<BTreeSet<String>>,
}

enum Source<'a> {
    Json(&'a Json<String, serde_json::Value>),
    Gguf(&'a [(String, Value)]),
}

/// A setting, whichever file it is from.
enum Setting<'a> {
    Number(f64),
    Flag(bool),
    Text(&'a str),
    Numbers(Vec<f64>),
    Texts(Vec<&'a str>),
    Section(&'a Json<String, serde_json::Value>),
    Other,
}

impl<'a> Config<'a> {
    /// The settings of a Hugging Face folder's `config.json`.
    pub fn json(map: &'a Json<String, serde_json::Value>) -> Config<'a> {
        Config { source: Source::Json(map), prefix: String::new(), read: RefCell::default() }
    }

    /// The settings of a GGUF file whose keys begin with the name of the architecture.
    pub fn gguf(metadata: &'a [(String, Value)], architecture: &str) -> Config<'a> {
        let prefix = format!("{architecture}.");
        Config { source: Source::Gguf(metadata), prefix, read: RefCell::default() }
    }

    /// A number, if the setting is there.
    ///
    /// # Errors
    /// `T0309` when it is no number, or a list of different ones.
    pub fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.setting(key) {
            None => Ok(None),
            Some(Setting::Number(x)) if x.is_finite() => Ok(Some(x)),
            // One number for each layer: the families here have equal layers.
            Some(Setting::Numbers(list)) if list.windows(2).all(|pair| pair[0] == pair[1]) => {
                list.first().map_or_else(|| Err(self.wrong(key, "a number")), |&x| Ok(Some(x)))
            }
            Some(_) => Err(self.wrong(key, "a number")),
        }
    }

    /// A whole number from 1 to 2^31, if the setting is there.
    ///
    /// # Errors
    /// `T0309` when it is anything else.
    pub fn count(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(number) = self.number(key)? else { return Ok(None) };
        if number.fract() == 0.0 && (1.0..=2_147_483_648.0).contains(&number) {
            return Ok(Some(number as usize));
        }
        Err(self.wrong(key, "a whole number from 1 to 2147483648"))
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// `T0309` when it is anything else, `T0310` when it is missing.
    pub fn required(&self, key: &str) -> Result<usize, Error> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    /// A truth value, `false` where the setting is missing.
    ///
    /// # Errors
    /// `T0309` when it is anything else.
    pub fn flag(&self, key: &str) -> Result<bool, Error> {
        self.flag_or(key, false)
    }

    /// A truth value, `otherwise` where the setting is missing.
    ///
    /// # Errors
    /// `T0309` when it is anything else.
    pub fn flag_or(&self, key: &str, otherwise: bool) -> Result<bool, Error> {
        match self.setting(key) {
            None => Ok(otherwise),
            Some(Setting::Flag(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A text, if the setting is there.
    ///
    /// # Errors
    /// `T0309` when it is anything else.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.setting(key) {
            None => Ok(None),
            Some(Setting::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    /// Texts, if the setting is there.
    ///
    /// # Errors
    /// `T0309` when it is anything else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, Error> {
        match self.setting(key) {
            None => Ok(None),
            Some(Setting::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(self.wrong(key, "a list of texts")),
        }
    }

    /// Numbers, if the setting is there: a list, or one number alone.
    ///
    /// # Errors
    /// `T0309` when it is anything else.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, Error> {
        match self.setting(key) {
            None => Ok(None),
            Some(Setting::Numbers(list)) => Ok(Some(list)),
            Some(Setting::Number(one)) => Ok(Some(vec![one])),
            Some(_) => Err(self.wrong(key, "a list of numbers")),
        }
    }

    /// A whole number under the first of several keys that is there: they are spellings of one.
    ///
    /// # Errors
    /// `T0309` when it is anything else, `T0311` when two of them differ.
    pub fn count_of(&self, keys: &[&str]) -> Result<Option<usize>, Error> {
        let mut found = None;
        for key in keys {
            let Some(count) = self.count(key)? else { continue };
            let (first, same) = *found.get_or_insert((key, count));
            if same != count {
                return Err(self.refuse(key, format!("{count}, and `{first}` {same}")));
            }
        }
        Ok(found.map(|(_, count)| count))
    }

    /// Passes over settings that change nothing about the numbers of this family.
    pub fn ignore(&self, keys: &[&str]) {
        self.read.borrow_mut().extend(keys.iter().map(|&key| key.to_owned()));
    }

    /// Whether the file speaks of a setting, be it to say that there is none.
    pub fn names(&self, key: &str) -> bool {
        match self.source {
            Source::Json(map) => map.contains_key(key),
            Source::Gguf(_) => self.keys().contains(&key),
        }
    }

    /// The settings inside a setting, if it is there. They have to be finished too.
    ///
    /// # Errors
    /// `T0309` when it is anything else.
    pub fn section(&self, key: &str) -> Result<Option<Config<'a>>, Error> {
        match self.setting(key) {
            None => Ok(None),
            Some(Setting::Section(map)) => {
                Ok(Some(Config { prefix: format!("{}{key}.", self.prefix), ..Config::json(map) }))
            }
            Some(_) => Err(self.wrong(key, "an object")),
        }
    }

    /// The error for a value that the importer does not do.
    pub fn refuse(&self, key: &str, value: impl std::fmt::Display) -> Error {
        Error::new("T0311", format!("the setting `{}{key}` is {value}", self.prefix))
            .help("the importer of this family does not do that; write the model as a .tn spec")
    }

    /// The error for a setting that is not there.
    pub fn missing(&self, key: &str) -> Error {
        Error::new("T0310", format!("the setting `{}{key}` is missing", self.prefix))
    }

    /// Refuses the first key that nobody asked for and that may matter.
    ///
    /// # Errors
    /// `T0311`, with the key's name.
    pub fn finish(self) -> Result<(), Error> {
        let read = self.read.borrow();
        let is_known = |key: &str| read.contains(key) || is_harmless(key) || self.is_read(key);
        match self.keys().into_iter().find(|key| !is_known(key)) {
            Some(key) => Err(Error::new(
                "T0311",
                format!("the setting `{}{key}` is not understood", self.prefix),
            )
            .help("the importer of this family does not know it; write the model as a .tn spec")),
            None => Ok(()),
        }
    }

    /// Whether `key` tells of a way to store weights that is known from their names and types.
    fn is_read(&self, key: &str) -> bool {
        let Source::Json(map) = self.source else { return false };
        let method = map.get(key).and_then(|it| it.get("quant_method")?.as_str());
        key == "quantization_config" && method.is_some_and(|it| quantised::METHODS.contains(&it))
    }

    /// The keys that hold something, without the prefix.
    fn keys(&self) -> Vec<&'a str> {
        match self.source {
            Source::Json(map) => {
                map.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| &**key).collect()
            }
            Source::Gguf(metadata) => {
                metadata.iter().filter_map(|(key, _)| key.strip_prefix(&*self.prefix)).collect()
            }
        }
    }

    fn setting(&self, key: &str) -> Option<Setting<'a>> {
        self.read.borrow_mut().insert(key.to_owned());
        match self.source {
            Source::Json(map) => json_setting(map.get(key)?),
            Source::Gguf(metadata) => {
                let key = format!("{}{key}", self.prefix);
                let found = metadata.binary_search_by(|(name, _)| name.cmp(&key)).ok()?;
                Some(gguf_setting(&metadata[found].1))
            }
        }
    }

    fn wrong(&self, key: &str, wanted: &str) -> Error {
        Error::new("T0309", format!("the setting `{}{key}` is not {wanted}", self.prefix))
    }
}

fn is_harmless(key: &str) -> bool {
    HARMLESS.lines().any(|line| line == key)
}

fn json_setting(value: &serde_json::Value) -> Option<Setting<'_>> {
    use serde_json::Value as Json;
    Some(match value {
        Json::Null => return None,
        Json::Bool(flag) => Setting::Flag(*flag),
        Json::Number(number) => number.as_f64().map_or(Setting::Other, Setting::Number),
        Json::String(text) => Setting::Text(text),
        Json::Object(map) => Setting::Section(map),
        Json::Array(list) => {
            let numbers = list.iter().map(number_of).collect::<Option<_>>();
            let texts = list.iter().map(serde_json::Value::as_str).collect::<Option<_>>();
            let texts = texts.map(Setting::Texts);
            numbers.map(Setting::Numbers).or(texts).unwrap_or(Setting::Other)
        }
    })
}

/// A number, be it infinite: what JSON can not say, Transformers writes as an object.
fn number_of(value: &serde_json::Value) -> Option<f64> {
    let infinite = |it: &serde_json::Value| match it.as_str() {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => None,
    };
    value.as_f64().or_else(|| infinite(value.get("__float__").unwrap_or(value)))
}

fn gguf_setting(value: &Value) -> Setting<'_> {
    match value {
        Value::Bool(flag) => Setting::Flag(*flag),
        Value::Text(text) => Setting::Text(text),
        Value::List(_) => value.as_numbers().map_or(Setting::Other, Setting::Numbers),
        Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => {
            value.as_f64().map_or(Setting::Other, Setting::Number)
        }
    }
}

/// The name of the architecture in either kind of checkpoint: `LlamaForCausalLM` or `llama`.
///
/// # Errors
/// `T0312` when the checkpoint does not say.
pub fn architecture(checkpoint: &Checkpoint) -> Result<&str, Error> {
    let name = match checkpoint.metadata() {
        Metadata::Gguf(_) => checkpoint.gguf_value("general.architecture").and_then(Value::as_str),
        Metadata::HuggingFace(map) => {
            map.get("architectures").and_then(|list| list.get(0)).and_then(|name| name.as_str())
        }
        Metadata::None => None,
    };
    name.ok_or_else(|| {
        Error::new("T0312", "the checkpoint does not name its architecture")
            .at(checkpoint.path().display().to_string())
    })
}
