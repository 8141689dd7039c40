//! Memory for weights, states and intermediate values: zeros, in pages of 2 MB where possible.
//!
//! Large pages double the bandwidth of a virtual machine. Nothing is backed by memory before it is
//! touched.

#![expect(unsafe_code, reason = "asks the kernel for memory")]

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::Mutex;

use crate::Fault;
use crate::pool::Pool;

/// A large page.
const PAGE: usize = 2 << 20;

/// Gives back to the system what compiling has left: memory that was freed and the allocator
/// keeps, and the pages of this program's code and constants, which are read from its file again
/// where they are needed.
pub fn give_back() {
    // SAFETY: the allocator takes nothing away from who uses it.
    unsafe {
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
        libc::dl_iterate_phdr(Some(forget_unwritten), ptr::null_mut());
    }
}

/// Forgets what is never written of the first object, which is this program: not 0, so that no
/// other follows.
unsafe extern "C" fn forget_unwritten(
    object: *mut libc::dl_phdr_info,
    _: usize,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader describes what it has mapped.
    let object = unsafe { &*object };
    let count = usize::from(object.dlpi_phnum);
    // SAFETY: as above.
    let segments = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, count) };
    let is_unchanged =
        |it: &&libc::Elf64_Phdr| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0;
    for it in segments.iter().filter(is_unchanged) {
        let first = (object.dlpi_addr + it.p_vaddr) as usize;
        let (from, to) =
            (first.next_multiple_of(SMALL), (first + it.p_memsz as usize) / SMALL * SMALL);
        // SAFETY: whole pages of what is as it is in the file. A refusal only costs memory.
        unsafe {
            libc::madvise(from as *mut libc::c_void, to.saturating_sub(from), libc::MADV_DONTNEED)
        };
    }
    1
}

/// Bytes of an ordinary page, or a multiple.
const SMALL: usize = 4096;

/// Bytes of their own, aligned to a large page.
pub struct Pages {
    base: *mut u8,
    bytes: usize,
    /// The mapping: where it begins and how long it is.
    mapping: (*mut libc::c_void, usize),
}

// SAFETY: the memory belongs to the value alone.
unsafe impl Send for Pages {}
// SAFETY: shared access only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// So many zeros, in large pages where the system grants them; what fills none is in small
    /// ones.
    pub fn zeroed(bytes: u64) -> Result<Pages, Fault> {
        let pages = Pages::sparse(bytes)?;
        // SAFETY: the range lies in the mapping. A refusal only costs speed.
        unsafe {
            let whole = pages.bytes / PAGE * PAGE;
            libc::madvise(pages.base.cast(), whole, libc::MADV_HUGEPAGE);
        }
        Ok(pages)
    }

    /// So many zeros that take memory only where they are touched.
    pub fn sparse(bytes: u64) -> Result<Pages, Fault> {
        let refused = || {
            Fault::new("R0401", format!("no room for {bytes} bytes"))
                .help("a smaller context or more memory")
        };
        let size = usize::try_from(bytes).ok().filter(|it| *it < isize::MAX as usize - 2 * PAGE);
        let size = size.ok_or_else(refused)?;
        let length = size.next_multiple_of(PAGE) + PAGE;
        // SAFETY: a new mapping touches nothing that exists.
        let start = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(ptr::null_mut(), length, access, kind, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(refused());
        }
        let base = start.wrapping_byte_add(start.align_offset(PAGE).min(PAGE));
        Ok(Pages { base: base.cast(), bytes: size, mapping: (start, length) })
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Result<Pages, Fault> {
        let mut pages = Pages::zeroed(bytes.len() as u64)?;
        pages.copy_from_slice(bytes);
        Ok(pages)
    }

    /// Reads `bytes` bytes of `file` from `offset` on, each thread its share.
    pub fn read(file: &File, offset: u64, bytes: u64, pool: &mut Pool) -> Result<Pages, Fault> {
        let pages = Pages::zeroed(bytes)?;
        let failure = Mutex::new(None);
        let size = pages.bytes;
        let base = Shared(pages.base);
        pool.run(&|thread, threads| {
            let (from, to) = (share(size, thread, threads), share(size, thread + 1, threads));
            // SAFETY: the shares are disjoint parts of `pages`, which nobody else sees yet.
            let part = unsafe { std::slice::from_raw_parts_mut(base.at(from), to - from) };
            if let Err(error) = file.read_exact_at(part, offset + from as u64) {
                failure.lock().map(|mut it| *it = Some(error)).unwrap_or(());
            }
        });
        match failure.into_inner() {
            Ok(None) => Ok(pages),
            Ok(Some(error)) => Err(Fault::new("R0101", format!("cannot read weights: {error}"))),
            Err(_) => Err(Fault::new("R0101", "cannot read weights")),
        }
    }

    /// Where the bytes begin, for those who order their accesses themselves.
    pub(crate) fn address(&self) -> *mut u8 {
        self.base
    }
}

/// Where the share of `thread` begins: at a large page, so that no two threads fault in the same.
fn share(size: usize, thread: usize, threads: usize) -> usize {
    let pages = size.div_ceil(PAGE);
    ((pages as u128 * thread as u128 / threads as u128) as usize).saturating_mul(PAGE).min(size)
}

struct Shared(*mut u8);

// SAFETY: whoever writes through it says why that is sound.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is as long as said, and fresh pages read as zeros.
        unsafe { std::slice::from_raw_parts(self.base, self.bytes) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nobody can refer to it any more.
        unsafe { libc::munmap(self.mapping.0, self.mapping.1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_aligned_zero_and_writable() {
        for bytes in [0, 1, 4096, PAGE as u64, PAGE as u64 + 1] {
            let mut pages = Pages::zeroed(bytes).unwrap();
            assert_eq!(pages.as_ptr().align_offset(PAGE), 0);
            assert_eq!(pages.len() as u64, bytes);
            assert!(pages.iter().all(|&it| it == 0));
            pages.fill(7);
        }
    }

    #[test]
    fn more_than_there_can_be_is_refused() {
        for bytes in [u64::MAX, 1 << 62, 1 << 48] {
            assert_eq!(Pages::zeroed(bytes).err().unwrap().code, "R0401");
        }
    }

    #[test]
    fn a_file_is_read_whole_whatever_the_number_of_threads() {
        let path = std::env::temp_dir().join(format!("treen-memory-{}", std::process::id()));
        let bytes: Vec<u8> = (0..3 * PAGE + 12345).map(|it| (it % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        for threads in 1..=3 {
            let mut pool = Pool::new(Some(threads)).unwrap();
            let pages = Pages::read(&file, 5, bytes.len() as u64 - 5, &mut pool).unwrap();
            assert!(pages[..] == bytes[5..]);
        }
        let mut pool = Pool::new(Some(2)).unwrap();
        let fault = Pages::read(&file, 5, bytes.len() as u64, &mut pool).err().unwrap();
        assert_eq!(fault.code, "R0101");
        std::fs::remove_file(&path).unwrap();
    }
}
