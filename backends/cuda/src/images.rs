//! Images that were made before: to compile a kernel takes a second, and the same text always gives
//! the same image.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kernels_cuda::HEADERS;
use sha2::{Digest, Sha256};

use crate::nvrtc::OPTIONS;
use crate::{Compiler, Image};

/// What files look like: another number for another layout.
const LAYOUT: &str = "1";

/// Bytes of a digest, which files begin with: that of what follows.
const DIGEST: usize = 32;

/// What a compiler makes, or has made before.
pub(crate) struct Images<'a> {
    compiler: &'a Compiler,
    /// The folder of those that were made, and what they depend on besides text and architecture.
    kept: Option<(&'a Path, String)>,
}

impl<'a> Images<'a> {
    /// Those in `folder`, which need not be there yet. Where there can be none, all are made anew.
    ///
    /// # Errors
    ///
    /// When the compiler does not say its version.
    pub(crate) fn new(
        compiler: &'a Compiler,
        folder: Option<&'a Path>,
    ) -> Result<Images<'a>, String> {
        let of = |folder| Ok::<_, String>((folder, identity(compiler)?));
        Ok(Images { compiler, kept: folder.map(of).transpose()? })
    }

    /// The image of `source` for `architecture`, found or made.
    ///
    /// # Errors
    ///
    /// What the compiler said.
    pub(crate) fn get(&self, source: &str, architecture: &str) -> Result<Image, String> {
        let make = || self.compiler.compile(source, architecture);
        let Some((folder, identity)) = &self.kept else { return make() };
        let path = folder.join(key(identity, source, architecture));
        if let Some(image) = read(&path) {
            return Ok(image);
        }
        let image = make()?;
        // What can not be kept is made again next time.
        let _ = write(&path, &image);
        Ok(image)
    }
}

/// A digest of all that an image depends on besides text and architecture.
fn identity(compiler: &Compiler) -> Result<String, String> {
    let version = compiler.version()?;
    let headers = HEADERS.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]);
    let toolkit = compiler.headers();
    let told = [LAYOUT, &version].into_iter().chain(OPTIONS.iter().copied()).map(str::as_bytes);
    Ok(digest(told.chain(headers).chain(toolkit.iter().map(Vec::as_slice))))
}

/// The name of the file: a digest of all that an image depends on.
fn key(identity: &str, source: &str, architecture: &str) -> String {
    digest([identity, architecture, source].map(str::as_bytes).into_iter()) + ".image"
}

/// In hexadecimal, and another one where the same bytes are other parts.
fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|it| format!("{it:02x}")).collect()
}

/// A file's image, unless the file is damaged.
fn read(path: &Path) -> Option<Image> {
    let bytes = fs::read(path).ok()?;
    let (digest, image) = bytes.split_at_checked(DIGEST)?;
    if *digest != *Sha256::digest(image) {
        return None;
    }
    postcard::from_bytes(image).ok()
}

/// Makes the file at once as a whole: others may be writing it too.
fn write(path: &Path, image: &Image) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let unfinished = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let image = postcard::to_stdvec(image).map_err(std::io::Error::other)?;
    fs::write(&unfinished, [&Sha256::digest(&image)[..], &image].concat())?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resources;

    #[test]
    fn what_was_kept_is_found_unless_damaged() {
        let folder = std::env::temp_dir().join(format!("treen-images-{}", std::process::id()));
        let path = folder.join(key("13.0", "text", "sm_90a"));
        assert_ne!(key("13.0", "text", "sm_90a"), key("13.0", "texts", "m_90a"));
        assert_eq!(read(&path), None);
        let resources = Resources { registers: 168, stack: 64, spilled: 32, is_serial: true };
        let image = Image { cubin: b"cubin".to_vec(), ptx: "text".to_owned(), resources };
        write(&path, &image).expect("a file");
        assert_eq!(read(&path), Some(image));
        fs::write(&path, b"too short").expect("a file");
        assert_eq!(read(&path), None);
        fs::write(&path, [7; 64]).expect("a file");
        assert_eq!(read(&path), None);
        fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
