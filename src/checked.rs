//! What was checked before. Whether passes keep their contracts on a graph depends on the graph,
//! the passes and the compiler alone, so that a build of it need not find out twice.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use ir::Module;
use passes::Pipeline;
use sha2::{Digest, Sha256};

use crate::catalog::{cache_folder, hexadecimal};

/// That all contracts held when a pipeline ran on a module.
pub(crate) struct Checked {
    /// It is there where they did.
    file: PathBuf,
}

impl Checked {
    /// Of at most `limit` rewrites by this build of the compiler; `None` where nothing can be kept.
    pub(crate) fn of(
        pipeline: &Pipeline,
        module: &Module,
        limit: Option<usize>,
    ) -> Option<Checked> {
        let program = fs::metadata(std::env::current_exe().ok()?).ok()?;
        let time = program.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let build = format!("{} bytes of {} ns", program.len(), time.as_nanos());
        let run = format!("{build}, {limit:?} rewrites by {pipeline}\n{module}");
        Some(Checked::within(&cache_folder().ok()?.join("checked"), &run))
    }

    /// In a folder, of a run that is told apart from others by its text.
    fn within(folder: &Path, run: &str) -> Checked {
        Checked { file: folder.join(hexadecimal(&Sha256::digest(run))) }
    }

    /// Whether they held.
    pub(crate) fn is_known(&self) -> bool {
        self.file.is_file()
    }

    /// Says that they do. What can not be kept is checked again.
    pub(crate) fn remember(&self) {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let _ = fs::create_dir_all(folder).and_then(|()| fs::write(&self.file, ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_held_is_known_of_that_run_alone() {
        let folder = std::env::temp_dir().join(format!("treen-checked-{}", std::process::id()));
        let checked = Checked::within(&folder, "a pipeline on a module");
        assert!(!checked.is_known());
        checked.remember();
        assert!(checked.is_known());
        assert!(Checked::within(&folder, "a pipeline on a module").is_known());
        assert!(!Checked::within(&folder, "a pipeline on another").is_known());
        fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
