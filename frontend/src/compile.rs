//! A spec to a module, from its text to the last check.

use ir::Module;

use crate::diagnostic::Diagnostic;
use crate::lower::Lower;
use crate::program::{Program, read};
use crate::settings::Settings;
use crate::source::Sources;
use crate::weights::{WeightMap, weight_map};

/// A compiled spec.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The model as its entry function, verified.
    pub module: Module,
    /// One map for each `weights` section.
    pub weights: Vec<WeightMap>,
    /// What `tokenizer` names.
    pub tokenizer: Option<String>,
}

/// Compiles the model of a spec; where there are several, the setting `model` says which.
///
/// # Errors
///
/// All that is wrong with the text, most of it at once.
pub fn compile(sources: &Sources, settings: &Settings) -> Result<Compiled, Vec<Diagnostic>> {
    let (files, mut faults) = read(sources);
    let program = Program::new(&files, sources, &mut faults);
    let known = program.settings();
    faults.extend(settings.unknown(&known));
    let model = program.model(settings.text("model")).map_err(|it| faults.push(it));
    let Ok(model) = model else { return Err(faults) };
    if !faults.is_empty() {
        return Err(faults);
    }
    let lowered = Lower::new(&program, sources, settings).model(program.functions[model])?;
    let sections = program.weights.iter();
    let weights =
        sections.map(|it| weight_map(it, &lowered.module, &lowered.weights, &mut faults)).collect();
    let verified = ir::verify(&lowered.module);
    faults.extend(verified.into_iter().map(|it| Diagnostic::error("E0305", it)));
    if !faults.is_empty() {
        return Err(faults);
    }
    let tokenizer = program.tokenizers.first().map(|it| it.text.clone());
    Ok(Compiled { module: lowered.module, weights, tokenizer })
}

/// All that is wrong with a spec.
pub fn check(sources: &Sources, settings: &Settings) -> Vec<Diagnostic> {
    compile(sources, settings).err().unwrap_or_default()
}
