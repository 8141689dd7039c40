//! The end of a payload: where its parts lie, what they hash to, which versions made it.
//!
//! ```text
//! 3 x { offset u64, bytes u64, sha256 [32] }   manifest, code, weights; offsets in the payload
//! sha256 [32]                                  of the above
//! format u32, abi u32, magic [8]               in this place in every version
//! ```
//! Numbers are little-endian.

use sha2::{Digest, Sha256};

use crate::Fault;
use crate::abi::ABI;

/// The version of the payload's layout.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"TREENEXE";
const PART: usize = 48;

/// How long a trailer is.
pub(super) const BYTES: usize = 3 * PART + 32 + 16;

/// A part of the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it begins; in a trailer counted from the start of the payload.
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) digest: [u8; 32],
}

/// The parts in the order in which they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) manifest: Part,
    pub(super) code: Part,
    pub(super) weights: Part,
}

impl Trailer {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        for part in [self.manifest, self.code, self.weights] {
            bytes.extend(part.offset.to_le_bytes());
            bytes.extend(part.bytes.to_le_bytes());
            bytes.extend(part.digest);
        }
        bytes.extend(Sha256::digest(&bytes));
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(ABI.to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    /// Reads a trailer and checks that its parts lie in the `room` bytes before it.
    pub(super) fn from_bytes(bytes: &[u8; BYTES], room: u64) -> Result<Trailer, Fault> {
        let (parts, rest) = bytes.split_at(3 * PART);
        let (digest, rest) = rest.split_at(32);
        if !rest.ends_with(MAGIC) {
            return Err(damaged("its end is missing"));
        }
        check_version("format", number(&rest[..4]), FORMAT)?;
        check_version("interface", number(&rest[4..8]), ABI)?;
        if Sha256::digest(parts)[..] != *digest {
            return Err(damaged("its table of contents does not have the recorded digest"));
        }
        let part = |index: usize| -> Result<Part, Fault> {
            let bytes = &parts[index * PART..(index + 1) * PART];
            let part = Part {
                offset: long(&bytes[..8]),
                bytes: long(&bytes[8..16]),
                digest: std::array::from_fn(|i| bytes[16 + i]),
            };
            let inside = part.offset.checked_add(part.bytes).is_some_and(|end| end <= room);
            inside.then_some(part).ok_or_else(|| damaged("a part lies outside of it"))
        };
        Ok(Trailer { manifest: part(0)?, code: part(1)?, weights: part(2)? })
    }
}

/// A payload that is not what was written.
pub(super) fn damaged(how: &str) -> Fault {
    Fault::new("R0103", format!("the model is damaged: {how}")).help("build or copy it again")
}

fn check_version(what: &str, found: u32, known: u32) -> Result<(), Fault> {
    if found == known {
        return Ok(());
    }
    let message = format!("the model has {what} {found}, and this runtime reads {what} {known}");
    let help = if known < found { "use a newer runtime" } else { "build the model again" };
    Err(Fault::new("R0104", message).help(help))
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

fn long(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}
