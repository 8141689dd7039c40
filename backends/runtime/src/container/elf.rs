//! The section table of an ELF file: enough to find a section and to add one.
//!
//! A payload merely appended to a program is lost when somebody strips it; a section is kept. Only
//! 64-bit little-endian files are read; numbers are those of the ELF specification.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const HEADER: usize = 64;
const ENTRY: usize = 64;

/// The longest table of names that is read.
const MOST_NAMES: u64 = 1 << 20;

/// What an ELF file says about its sections.
pub(super) struct Sections {
    header: [u8; HEADER],
    entries: Vec<[u8; ENTRY]>,
    names: Vec<u8>,
}

impl Sections {
    /// Reads the table; `None` when the file is no such ELF file. One that is cut off ends too
    /// early, which is an error.
    pub(super) fn read(file: &File) -> io::Result<Option<Sections>> {
        let mut header = [0; HEADER];
        match file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
            Ok(()) => read_table(file, header),
        }
    }

    /// Where a section lies in the file, and its length.
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        let entry = self.entries.iter().rfind(|it| self.name(it) == Some(name.as_bytes()))?;
        Some((word(entry, 24), word(entry, 32)))
    }

    /// Adds a section that is not loaded, and moves the table of names to `names_at`.
    pub(super) fn add(&mut self, name: &str, offset: u64, bytes: u64, align: u64, names_at: u64) {
        let mut entry = [0; ENTRY];
        put(&mut entry, 0, &(self.names.len() as u32).to_le_bytes());
        put(&mut entry, 4, &1u32.to_le_bytes()); // SHT_PROGBITS
        put(&mut entry, 24, &offset.to_le_bytes());
        put(&mut entry, 32, &bytes.to_le_bytes());
        put(&mut entry, 48, &align.to_le_bytes());
        self.entries.push(entry);
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        let names = &mut self.entries[half(&self.header, 0x3E)];
        put(names, 24, &names_at.to_le_bytes());
        put(names, 32, &(self.names.len() as u64).to_le_bytes());
    }

    /// The table of names.
    pub(super) fn names(&self) -> &[u8] {
        &self.names
    }

    /// The section table.
    pub(super) fn table(&self) -> Vec<u8> {
        self.entries.concat()
    }

    /// The header of the file once the section table lies at `table_at`.
    pub(super) fn header(&self, table_at: u64) -> [u8; HEADER] {
        let mut header = self.header;
        put(&mut header, 0x28, &table_at.to_le_bytes());
        put(&mut header, 0x3C, &(self.entries.len() as u16).to_le_bytes());
        header
    }

    fn name(&self, entry: &[u8; ENTRY]) -> Option<&[u8]> {
        let rest = self.names.get(word(entry, 0) as u32 as usize..)?;
        rest.split(|&it| it == 0).next()
    }
}

fn read_table(file: &File, header: [u8; HEADER]) -> io::Result<Option<Sections>> {
    let known = header.starts_with(b"\x7fELF\x02\x01") && half(&header, 0x3A) == ENTRY;
    let (table, count) = (word(&header, 0x28), half(&header, 0x3C));
    if !known || count == 0 || count == usize::from(u16::MAX) {
        return Ok(None);
    }
    let mut entries = vec![[0; ENTRY]; count];
    read_at(file, entries.as_flattened_mut(), table)?;
    let Some(names_entry) = entries.get(half(&header, 0x3E)) else { return Ok(None) };
    let (names_at, names_bytes) = (word(names_entry, 24), word(names_entry, 32));
    if MOST_NAMES < names_bytes {
        return Ok(None);
    }
    let mut names = vec![0; names_bytes as usize];
    read_at(file, &mut names, names_at)?;
    Ok(Some(Sections { header, entries, names }))
}

/// Reading beyond what a file can hold is reading beyond its end.
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    match i64::try_from(offset) {
        Ok(_) => file.read_exact_at(bytes, offset),
        Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn word(bytes: &[u8; 64], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn half(bytes: &[u8; 64], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn put(bytes: &mut [u8; 64], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
