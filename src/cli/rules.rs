//! Rules of `fuse`: files of them, a list of them, and why one does not apply.

use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use passes::{
    Manager, NearMiss,
    rules::{Rule, Rules},
};
use treen::Error;

use super::{ModelArgs, unwritable};

/// The usual rules, and those of a file if one is named.
#[derive(Clone)]
pub(super) struct RulesArg(pub(super) Arc<Rules>);

impl Default for RulesArg {
    fn default() -> RulesArg {
        RulesArg(Arc::new(Rules::standard()))
    }
}

impl FromStr for RulesArg {
    type Err = String;

    fn from_str(path: &str) -> Result<RulesArg, String> {
        if path.is_empty() {
            return Ok(RulesArg::default());
        }
        let text = std::fs::read_to_string(Path::new(path)).map_err(|error| error.to_string())?;
        let more = Rules::parse(&text).map_err(|error| error.to_string())?;
        Ok(RulesArg(Arc::new(Rules::standard().with(more)?)))
    }
}

/// Writes every rule with its class, and what is said of it.
pub(super) fn list(out: &mut dyn Write) -> Result<(), Error> {
    Rules::standard().list.iter().try_for_each(|rule| {
        let (class, does) = rule.kind();
        let line = format!("{:<18} {class:<13} {does:<8} {}", rule.name, rule.about);
        writeln!(out, "{}", line.trim_end()).map_err(unwritable)
    })
}

/// Say why a rule does not apply where it nearly does
#[derive(Args)]
pub(super) struct WhyNotArgs {
    /// The rule; `treen passes --rules` lists them
    rule: String,
    /// Which model.
    #[command(flatten)]
    model: ModelArgs,
}

impl WhyNotArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let options = self.model.options();
        let Some(rule) = options.rules.get(&self.rule) else {
            let names: Vec<&str> = options.rules.list.iter().map(|it| it.name.as_str()).collect();
            let near = frontend::nearest(&self.rule, names.iter().copied());
            let all = || format!("there is {}", names.join(", "));
            return Err(Error::new("C0305", format!("there is no rule `{}`", self.rule))
                .help(near.map_or_else(all, |it| format!("did you mean `{it}`?"))));
        };
        let module = self.model.open()?.compile()?.module;
        let before = options.pipeline(&module)?.before("fuse");
        let manager = Manager { check: options.check, ..Manager::default() };
        let (module, _) = manager.run(&before, module, &mut |_| {})?;
        let found = passes::why_not(&module, &options.rules, rule);
        if found.is_empty() {
            return writeln!(out, "nothing looks like `{}`", rule.name).map_err(unwritable);
        }
        found.iter().try_for_each(|it| write_near(out, rule, it))
    }
}

fn write_near(out: &mut dyn Write, rule: &Rule, near: &NearMiss) -> Result<(), Error> {
    let NearMiss { function, place, names, failures } = near;
    let names =
        if names.is_empty() { String::new() } else { format!(", where {}", names.join(", ")) };
    let verdict = if failures.is_empty() { "applies" } else { "does not apply" };
    writeln!(out, "@{function} {place}: `{}` {verdict}{names}", rule.name).map_err(unwritable)?;
    failures.iter().try_for_each(|it| writeln!(out, "    {it}").map_err(unwritable))
}
