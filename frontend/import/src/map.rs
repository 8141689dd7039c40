//! A file mapped into memory, whose pages can be given back once they are read.
#![expect(unsafe_code, reason = "mapping a file, and advising the kernel about its pages")]

use crate::Error;
use memmap2::{Mmap, UncheckedAdvice};
use std::{fs::File, ops::Range, path::Path};

/// A read-only mapping of a whole file.
#[derive(Debug)]
pub(crate) struct Map(Mmap);

impl Map {
    pub(crate) fn open(path: &Path) -> Result<Map, Error> {
        let failed = |error: std::io::Error| {
            Error::new("T0301", format!("cannot read the file: {error}"))
                .at(path.display().to_string())
        };
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(std::io::Error::other("it is not a regular file")));
        }
        // SAFETY: the mapping is read-only. Another program that cuts the file short while we read
        // it can end this process with a signal, as with every program that maps its inputs.
        unsafe { Mmap::map(&file) }.map(Map).map_err(failed)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells the kernel that these pages may go. Reading them again brings them back from the file.
    pub(crate) fn forget(&self, range: Range<usize>) {
        // SAFETY: the mapping is of a file and nobody writes to it, so dropped pages come back as
        // they were. A refusal of the advice costs memory and nothing else.
        let _ = unsafe {
            self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
        };
    }
}
