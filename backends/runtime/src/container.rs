//! The executable as a file: a program, and in a section of it a payload.
//!
//! ```text
//! the runtime (the compiler's own binary)
//! section .treen:  manifest | code | weights | trailer    each but the trailer on its own pages
//! the section table
//! ```
//! Code is mapped from the file, weights are read into large pages. Digests of the manifest and the
//! code are compared at start-up, that of the weights only when somebody asks
//! ([`Container::check`]).

mod elf;
mod trailer;
mod write;

use std::env;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use write::write_executable;

use crate::code::Code;
use crate::memory::Pages;
use crate::pool::Pool;
use crate::{Fault, Manifest};
use elf::Sections;
use trailer::{Part, Trailer, damaged};

/// The name of the payload's section.
const SECTION: &str = ".treen";

/// What parts are aligned to: a page.
const ALIGN: u64 = 4096;

/// A model in a file.
pub struct Container {
    path: PathBuf,
    file: File,
    manifest: Manifest,
    /// With offsets from the start of the file.
    parts: Trailer,
}

impl Container {
    /// The model in the file at `path`.
    pub fn open(path: &Path) -> Result<Container, Fault> {
        let file = File::open(path).map_err(|error| Fault::reading(path, &error))?;
        let none = || Fault::new("R0102", format!("`{}` holds no model", path.display()));
        Container::read(path.to_path_buf(), file)?.ok_or_else(none)
    }

    /// The model in the running program, or `None` if this is the bare compiler.
    pub fn of_this_program() -> Result<Option<Container>, Fault> {
        let (path, file) = this_program()?;
        Container::read(path, file)
    }

    fn read(path: PathBuf, file: File) -> Result<Option<Container>, Fault> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("the file is cut off"),
            _ => Fault::reading(&path, &error),
        };
        let Some(sections) = Sections::read(&file).map_err(failed)? else { return Ok(None) };
        let Some((start, bytes)) = sections.find(SECTION) else { return Ok(None) };
        let end =
            start.checked_add(bytes).filter(|end| file.metadata().is_ok_and(|it| *end <= it.len()));
        let room = bytes.checked_sub(trailer::BYTES as u64);
        let Some((end, room)) = end.zip(room) else { return Err(damaged("it is cut off")) };
        let mut trailer = [0; trailer::BYTES];
        file.read_exact_at(&mut trailer, end - trailer::BYTES as u64).map_err(failed)?;
        let mut parts = Trailer::from_bytes(&trailer, room)?;
        for part in [&mut parts.manifest, &mut parts.code, &mut parts.weights] {
            part.offset += start;
        }
        let mut manifest = vec![0; parts.manifest.bytes as usize];
        file.read_exact_at(&mut manifest, parts.manifest.offset).map_err(failed)?;
        if Sha256::digest(&manifest)[..] != parts.manifest.digest {
            return Err(unlike("manifest"));
        }
        let manifest: Manifest =
            postcard::from_bytes(&manifest).map_err(|_| damaged("its manifest cannot be read"))?;
        manifest.program.check(parts.code.bytes, parts.weights.bytes)?;
        Ok(Some(Container { path, file, manifest, parts }))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says about the model.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The program's code, ready to run.
    pub fn code(&self) -> Result<Code, Fault> {
        self.check_part("code", &self.parts.code)?;
        Code::from_file(&self.file, self.parts.code.offset, self.parts.code.bytes as usize)
    }

    /// The program's code as it is, for a device.
    pub fn code_bytes(&self) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; self.parts.code.bytes as usize];
        let read = self.file.read_exact_at(&mut bytes, self.parts.code.offset);
        read.map_err(|error| Fault::reading(&self.path, &error))?;
        if Sha256::digest(&bytes)[..] != self.parts.code.digest {
            return Err(unlike("code"));
        }
        Ok(bytes)
    }

    /// Reads the weights.
    pub fn weights(&self, pool: &mut Pool) -> Result<Pages, Fault> {
        Pages::read(&self.file, self.parts.weights.offset, self.parts.weights.bytes, pool)
    }

    /// Bytes of the weights.
    pub fn weight_bytes(&self) -> u64 {
        self.parts.weights.bytes
    }

    /// One digest for manifest, code and weights, in hexadecimal.
    pub fn digest(&self) -> String {
        let parts = [self.parts.manifest, self.parts.code, self.parts.weights];
        let all = Sha256::digest(parts.map(|it| it.digest).concat());
        all.iter().map(|it| format!("{it:02x}")).collect()
    }

    /// Compares every byte of the payload with the digests that it was written with.
    pub fn check(&self) -> Result<(), Fault> {
        let parts = [
            ("manifest", self.parts.manifest),
            ("code", self.parts.code),
            ("weights", self.parts.weights),
        ];
        parts.iter().try_for_each(|(name, part)| self.check_part(name, part))
    }

    fn check_part(&self, name: &str, part: &Part) -> Result<(), Fault> {
        let found = self.hash(part).map_err(|error| Fault::reading(&self.path, &error))?;
        if found == part.digest { Ok(()) } else { Err(unlike(name)) }
    }

    fn hash(&self, part: &Part) -> io::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        while done < part.bytes {
            let size = buffer.len().min((part.bytes - done) as usize);
            self.file.read_exact_at(&mut buffer[..size], part.offset + done)?;
            hash.update(&buffer[..size]);
            done += size as u64;
        }
        Ok(hash.finalize().into())
    }
}

fn unlike(part: &str) -> Fault {
    damaged(&format!("its {part} does not have the recorded digest"))
}

/// The file of the running program. Where the kernel does not show it, its name has to do.
fn this_program() -> Result<(PathBuf, File), Fault> {
    let own = PathBuf::from("/proc/self/exe");
    if let Ok(file) = File::open(&own) {
        return Ok((own, file));
    }
    let path = PathBuf::from(env::args_os().next().unwrap_or_default());
    let file = File::open(&path).map_err(|error| Fault::reading(&path, &error))?;
    Ok((path, file))
}
