//! Files that make a pass fail again: a graph in text form, with what else is needed in comments
//! above it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use passes::{Failure, Manager, Pipeline, rules::Rules};
use sha2::{Digest, Sha256};
use treen::Error;

use super::file_error;

/// A graph and how to run passes on it.
pub(super) struct Reproducer {
    /// The graph, which has no faults.
    pub(super) module: ir::Module,
    /// The passes.
    pub(super) pipeline: Pipeline,
    /// How they are run.
    pub(super) manager: Manager,
}

impl Reproducer {
    /// Reads the file at `path`, or standard input where that is `-`. `passes` stand in for those
    /// that the file names; `rules` are those of `fuse`.
    pub(super) fn read(
        path: &Path,
        passes: Option<&str>,
        rules: &Arc<Rules>,
    ) -> Result<Reproducer, Error> {
        let text = match path.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin().lock()),
            false => fs::read_to_string(path),
        };
        let text = text.map_err(|error| file_error(path, &error))?;
        let at = |why: String| Error::new("C0301", format!("{}: {why}", path.display()));
        let module = ir::parse(&text).map_err(at)?;
        let faults = ir::verify(&module);
        if !faults.is_empty() {
            return Err(at(faults.join("\n")));
        }
        let number = |name| -> Result<Option<u64>, Error> {
            let number = comment(&text, name).map(|it| it.parse());
            number.transpose().map_err(|_| at(format!("`// {name}: ` wants a number")))
        };
        let passes = passes.or_else(|| comment(&text, "passes")).unwrap_or_default();
        let pipeline = Pipeline::parse(passes, &treen::passes_with(rules))
            .map_err(|why| Error::new("C0302", why.to_string()))?;
        let mut manager = Manager::default();
        manager.seed = number("seed")?.unwrap_or(manager.seed);
        manager.limit = number("bisect-limit")?.map(|it| it as usize);
        Ok(Reproducer { module, pipeline, manager })
    }
}

/// What the line `// NAME: ...` above the graph says.
fn comment<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut above = text.lines().map_while(|it| it.strip_prefix("//"));
    above.find_map(|it| it.trim().strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

/// Writes what makes the pass fail again to `path`, or under a name of its own to the folder of
/// temporary files; a line that says where.
pub(super) fn write(failure: &Failure, path: Option<PathBuf>) -> String {
    let text = failure.reproducer();
    let path = path.unwrap_or_else(|| {
        let digest = Sha256::digest(&text);
        let digest: String = digest.iter().take(4).map(|it| format!("{it:02x}")).collect();
        let pass = failure.stage.split('{').next().unwrap_or_default();
        std::env::temp_dir().join(format!("treen-{pass}-{digest}.ir"))
    });
    match write_once(&path, &text) {
        Ok(()) => format!("`treen opt {0}` fails in the same way", path.display()),
        Err(error) => format!("{}", file_error(&path, &error)),
    }
}

/// Writes a file that must not be there, unless it says the same.
fn write_once(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(_) if fs::read_to_string(path).is_ok_and(|it| it == text) => Ok(()),
        Err(error) => Err(error),
    }
}
