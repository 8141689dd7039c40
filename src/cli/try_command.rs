//! A command of the user's that says whether something is right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ir::Module;
use treen::Error;

use super::file_error;

/// The command, with a file of its own to look at.
pub(super) struct TryCommand {
    program: String,
    arguments: Vec<String>,
    folder: PathBuf,
}

impl TryCommand {
    /// `None` where no command is given.
    pub(super) fn new(words: &[String]) -> Result<Option<TryCommand>, Error> {
        let Some((program, arguments)) = words.split_first() else { return Ok(None) };
        let folder = std::env::temp_dir().join(format!("treen-try-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| file_error(&folder, &error))?;
        Ok(Some(TryCommand { program: program.clone(), arguments: arguments.to_vec(), folder }))
    }

    /// Where the file is that the command is to look at.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether the command succeeds on a graph.
    pub(super) fn succeeds_on(&self, module: &Module) -> Result<bool, Error> {
        let path = self.file("graph.ir");
        fs::write(&path, module.to_string()).map_err(|error| file_error(&path, &error))?;
        self.succeeds(&path)
    }

    /// Whether the command succeeds on the file at `path`. What it prints is not shown.
    pub(super) fn succeeds(&self, path: &Path) -> Result<bool, Error> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(path).stdin(Stdio::null());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let status = status.map_err(|error| file_error(Path::new(&self.program), &error))?;
        Ok(status.success())
    }
}

impl Drop for TryCommand {
    fn drop(&mut self) {
        // A folder that can not be removed is left to the system.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
