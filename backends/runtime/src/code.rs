//! Machine code where it can be run: never writable and executable at once.

#![expect(unsafe_code, reason = "maps machine code and calls into it")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::Fault;
use crate::abi::HostFn;

/// Pages of a file can be mapped only from such a multiple on.
const PAGE: u64 = 4096;

/// Machine code, mapped.
pub struct Code(Mmap);

impl Code {
    /// Code in memory: a copy of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Code, Fault> {
        let mut pages = MmapMut::map_anon(bytes.len().max(1)).map_err(refused)?;
        pages[..bytes.len()].copy_from_slice(bytes);
        Ok(Code(pages.make_exec().map_err(refused)?))
    }

    /// Code in a file: mapped from there, or copied where a tool has moved it off its page.
    pub fn from_file(file: &File, offset: u64, bytes: usize) -> Result<Code, Fault> {
        if offset.is_multiple_of(PAGE) && 0 < bytes {
            // SAFETY: nobody writes to the file of a running program, nor to one made by us, which
            // is only ever replaced as a whole.
            let pages = unsafe { MmapOptions::new().offset(offset).len(bytes).map_exec(file) };
            return Ok(Code(pages.map_err(refused)?));
        }
        let mut copy = vec![0; bytes];
        file.read_exact_at(&mut copy, offset).map_err(refused)?;
        Code::from_bytes(&copy)
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The host program that begins at `entry`; `None` outside the code.
    pub(crate) fn host(&self, entry: usize) -> Option<HostFn> {
        let start = self.0.get(entry..)?.first()? as *const u8;
        // SAFETY: that a host program begins there is what the compiler promises by `entry`.
        Some(unsafe { std::mem::transmute::<*const u8, HostFn>(start) })
    }
}

fn refused(error: std::io::Error) -> Fault {
    Fault::new("R0401", format!("cannot map the machine code: {error}"))
}
