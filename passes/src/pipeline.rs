//! Pipelines: which passes run, in which order, with which options.

use std::{fmt, sync::Arc};

use crate::{Cx, Fault, Pass};

/// Passes in order.
#[derive(Clone, Default)]
pub struct Pipeline {
    stages: Vec<Stage>,
}

/// One pass with its options.
#[derive(Clone)]
pub struct Stage {
    /// The pass.
    pub pass: Arc<dyn Pass>,
    /// The options as they were given.
    pub given: Vec<(String, String)>,
    /// The options with their defaults.
    pub cx: Cx,
}

impl Pipeline {
    /// Adds `pass` with its default options.
    #[must_use]
    pub fn then(mut self, pass: Arc<dyn Pass>) -> Pipeline {
        let cx = Cx::new(&*pass, &[]).unwrap_or_default();
        self.stages.push(Stage { pass, given: Vec::new(), cx });
        self
    }

    /// Reads `a,b{k=2,j=x y}`, where `known` are the passes that may be named.
    ///
    /// # Errors
    ///
    /// What is not a pass or not an option of it.
    pub fn parse(text: &str, known: &[Arc<dyn Pass>]) -> Result<Pipeline, Fault> {
        let stages = split_top(text).into_iter().filter(|it| !it.is_empty());
        let stages = stages.map(|it| Stage::parse(it, known)).collect::<Result<_, _>>()?;
        Ok(Pipeline { stages })
    }

    /// The stages that come before the first of that pass, or all.
    #[must_use]
    pub fn before(&self, pass: &str) -> Pipeline {
        let stages = self.stages.iter().take_while(|it| it.pass.name() != pass);
        Pipeline { stages: stages.cloned().collect() }
    }

    /// The stages, first to last.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }
}

impl Stage {
    fn parse(text: &str, known: &[Arc<dyn Pass>]) -> Result<Stage, Fault> {
        let (name, given) = match text.split_once('{') {
            None => (text, Vec::new()),
            Some((name, rest)) => {
                let inner = rest.trim_end().strip_suffix('}');
                let inner = inner.ok_or_else(|| Fault::new(format!("`{text}` is not closed")))?;
                (name.trim(), parse_options(inner)?)
            }
        };
        let Some(pass) = known.iter().find(|it| it.name() == name) else {
            let known: Vec<&str> = known.iter().map(|it| it.name()).collect();
            return Err(Fault::new(format!("no pass `{name}`; there is {}", known.join(", "))));
        };
        let cx = Cx::new(&**pass, &given).map_err(|why| Fault::new(format!("{name}: {why}")))?;
        Ok(Stage { pass: pass.clone(), given, cx })
    }
}

fn parse_options(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let option = |it: &str| match it.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(Fault::new(format!("`{it}` is not `option=value`"))),
    };
    text.split(',').filter(|it| !it.trim().is_empty()).map(option).collect()
}

/// Splits at commas outside braces.
fn split_top(text: &str) -> Vec<&str> {
    let mut open = false;
    let outside = |it: char| {
        match it {
            '{' => open = true,
            '}' => open = false,
            _ => {}
        }
        it == ',' && !open
    };
    text.split(outside).map(str::trim).collect()
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<String> = self.stages.iter().map(Stage::to_string).collect();
        f.write_str(&stages.join(","))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pass.name())?;
        let given: Vec<String> = self.given.iter().map(|(k, v)| format!("{k}={v}")).collect();
        if given.is_empty() { Ok(()) } else { write!(f, "{{{}}}", given.join(",")) }
    }
}
