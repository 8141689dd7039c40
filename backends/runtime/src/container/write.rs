//! Writing an executable: this very program, with a payload.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::elf::Sections;
use super::trailer::{Part, Trailer};
use super::{ALIGN, SECTION, this_program};
use crate::{Fault, Manifest};

/// Writes an executable to `path`, which appears only when whole. `weights` are the bytes that the
/// program's weight slots lie in. Equal inputs give equal bytes.
pub fn write_executable(path: &Path, manifest: &Manifest, weights: &[u8]) -> Result<(), Fault> {
    let (runtime, sections) = runtime()?;
    let draft = draft_name(path);
    let written = write_draft(&draft, runtime, sections, manifest, weights)
        .and_then(|()| fs::rename(&draft, path));
    written.map_err(|error| {
        // What failed says more than a draft that cannot be removed.
        let _ = fs::remove_file(&draft);
        Fault::writing(path, &error)
    })
}

/// The program to copy: it must be the bare runtime.
fn runtime() -> Result<(File, Sections), Fault> {
    let (path, file) = this_program()?;
    let sections = Sections::read(&file).map_err(|error| Fault::reading(&path, &error))?;
    let unfit = |why: &str| Fault::new("R0102", format!("`{}` {why}", path.display()));
    match sections {
        None => Err(unfit("has no section table to add a model to")),
        Some(it) if it.find(SECTION).is_some() => Err(unfit("already holds a model")),
        Some(it) => Ok((file, it)),
    }
}

/// Beside the target, so that renaming replaces it in one step.
fn draft_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.draft", std::process::id()));
    path.with_file_name(name)
}

fn write_draft(
    path: &Path,
    mut runtime: File,
    mut sections: Sections,
    manifest: &Manifest,
    weights: &[u8],
) -> io::Result<()> {
    let mut open = OpenOptions::new();
    let mut file = open.write(true).create(true).truncate(true).mode(0o755).open(path)?;
    io::copy(&mut runtime, &mut file)?;
    let start = pad(&mut file, ALIGN)?;
    let mut rest = manifest.clone();
    let code = std::mem::take(&mut rest.program.code);
    let rest = postcard::to_stdvec(&rest).map_err(io::Error::other)?;
    let trailer = Trailer {
        manifest: write_part(&mut file, start, &rest)?,
        code: write_part(&mut file, start, &code)?,
        weights: write_part(&mut file, start, weights)?,
    };
    file.write_all(&trailer.to_bytes())?;
    let names_at = file.stream_position()?;
    sections.add(SECTION, start, names_at - start, ALIGN, names_at);
    file.write_all(sections.names())?;
    let table_at = pad(&mut file, 8)?;
    file.write_all(&sections.table())?;
    file.write_all_at(&sections.header(table_at), 0)
}

/// Writes one part of a payload that begins at `start`, and says where it went.
fn write_part(file: &mut File, start: u64, bytes: &[u8]) -> io::Result<Part> {
    let offset = pad(file, ALIGN)? - start;
    file.write_all(bytes)?;
    Ok(Part { offset, bytes: bytes.len() as u64, digest: Sha256::digest(bytes).into() })
}

/// Zeros up to a multiple of `align`, which is where the file then ends.
fn pad(file: &mut File, align: u64) -> io::Result<u64> {
    let at = file.stream_position()?;
    let end = at.next_multiple_of(align);
    file.write_all(&vec![0; (end - at) as usize])?;
    Ok(end)
}
