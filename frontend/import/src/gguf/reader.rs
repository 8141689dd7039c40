//! A cursor over bytes that are not trusted.

use crate::Error;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// Bytes ahead that items already counted, and not yet read, will take at least. Two counts
    /// cannot claim the same bytes, so what is allocated for counts is in proportion to the file.
    promised: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, offset: 0, promised: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn fault(&self, what: impl Into<String>) -> Error {
        Error::new("T0303", what).at(format!("offset {}", self.offset))
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.offset..];
        let Some(taken) = rest.get(..n) else {
            return Err(self
                .fault(format!("the file ends {} bytes too early", n - rest.len()))
                .help("the file is cut short: download it again"));
        };
        self.offset += n;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A 64-bit number that counts something in memory.
    pub(super) fn size(&mut self) -> Result<usize, Error> {
        let number = self.u64()?;
        usize::try_from(number).map_err(|_| self.fault(format!("{number} does not fit in memory")))
    }

    /// A number of items that take at least `min_bytes` each, to be read by [`Reader::items`].
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<usize, Error> {
        let count = self.size()?;
        let rest = (self.bytes.len() - self.offset).saturating_sub(self.promised);
        if rest / min_bytes < count {
            return Err(self.fault(format!("{count} items cannot lie in the {rest} bytes left")));
        }
        self.promised += count * min_bytes;
        Ok(count)
    }

    /// Reads as many items as [`Reader::count`] said.
    pub(super) fn items<T>(
        &mut self,
        count: usize,
        min_bytes: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            self.promised -= min_bytes;
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(super) fn string(&mut self) -> Result<String, Error> {
        let length = self.size()?;
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.fault("a string is not UTF-8")),
        }
    }
}
