//! Reads SentencePiece's own files, `tokenizer.model` and `spiece.model`: a `ModelProto` in the
//! encoding of protocol buffers. Field numbers are those of `sentencepiece_model.proto`.

use super::sentence_piece::{NORMAL, Pieces, Style};
use crate::error::Error;

/// A SentencePiece model. Texts lie in the file.
pub(super) struct Model<'a> {
    pub(super) pieces: Pieces<&'a str>,
    pub(super) style: Style<'a>,
    pub(super) algorithm: u64,
    pub(super) bos: &'a str,
    pub(super) eos: &'a str,
}

/// [`Model::algorithm`]: the most probable pieces, or pairs merged by score.
pub(super) const UNIGRAM: u64 = 1;
pub(super) const BPE: u64 = 2;

/// A field's value, by its encoding.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Word([u8; 4]),
    Bytes(&'a [u8]),
    /// Eight bytes wide, which nothing here is.
    Long,
}

impl<'a> Value<'a> {
    fn number(self) -> Result<u64, Error> {
        if let Value::Number(number) = self { Ok(number) } else { Err(fault("no number")) }
    }

    fn flag(self) -> Result<bool, Error> {
        self.number().map(|number| number != 0)
    }

    fn float(self) -> Result<f64, Error> {
        let Value::Word(word) = self else { return Err(fault("no float")) };
        Ok(f32::from_le_bytes(word).into())
    }

    fn bytes(self) -> Result<&'a [u8], Error> {
        if let Value::Bytes(bytes) = self { Ok(bytes) } else { Err(fault("no bytes")) }
    }

    fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| fault("no UTF-8"))
    }
}

fn fault(what: &str) -> Error {
    Error::new("T0314", format!("this is no SentencePiece model: {what} where one should be"))
}

pub(super) fn parse(file: &[u8]) -> Result<Model<'_>, Error> {
    let (texts, scores, kinds) = Default::default();
    let style = Style { charsmap: &[], prefix_space: true, trim_spaces: true, mark_spaces: true };
    let pieces = Pieces { texts, scores, kinds };
    let mut model = Model { pieces, style, algorithm: UNIGRAM, bos: "<s>", eos: "</s>" };
    let mut count = 0;
    fields(file, |field, _| {
        count += usize::from(field == 1);
        Ok(())
    })?;
    model.pieces.texts.reserve_exact(count);
    model.pieces.scores.reserve_exact(count);
    model.pieces.kinds.reserve_exact(count);
    fields(file, |field, value| match field {
        1 => model.read_piece(value.bytes()?),
        2 => model.read_trainer(value.bytes()?),
        3 => model.read_normalizer(value.bytes()?),
        5 => refuse_denormalizer(value.bytes()?),
        _ => Ok(()),
    })?;
    if model.pieces.texts.is_empty() {
        return Err(fault("no piece"));
    }
    Ok(model)
}

impl<'a> Model<'a> {
    fn read_piece(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let (mut text, mut score, mut kind) = ("", 0.0, u64::from(NORMAL));
        fields(message, |field, value| {
            match field {
                1 => text = value.text()?,
                2 => score = value.float()?,
                3 => kind = value.number()?,
                _ => {}
            }
            Ok(())
        })?;
        if text.is_empty() {
            return Err(fault("an empty piece"));
        }
        self.pieces.texts.push(text);
        self.pieces.scores.push(score);
        self.pieces.kinds.push(u8::try_from(kind).map_err(|_| fault("no kind of piece"))?);
        Ok(())
    }

    fn read_trainer(&mut self, message: &'a [u8]) -> Result<(), Error> {
        fields(message, |field, value| {
            match field {
                3 => self.algorithm = value.number()?,
                24 if value.flag()? => {
                    return Err(super::fault("spaces are marked behind words, not before them"));
                }
                46 => self.bos = value.text()?,
                47 => self.eos = value.text()?,
                _ => {}
            }
            Ok(())
        })
    }

    fn read_normalizer(&mut self, message: &'a [u8]) -> Result<(), Error> {
        fields(message, |field, value| {
            match field {
                2 => self.style.charsmap = value.bytes()?,
                3 => self.style.prefix_space = value.flag()?,
                4 => self.style.trim_spaces = value.flag()?,
                5 => self.style.mark_spaces = value.flag()?,
                _ => {}
            }
            Ok(())
        })
    }
}

fn refuse_denormalizer(message: &[u8]) -> Result<(), Error> {
    fields(message, |field, value| match field {
        2 if !value.bytes()?.is_empty() => Err(super::fault("decoded text is normalised")),
        _ => Ok(()),
    })
}

/// Gives each field of a message, with its number.
fn fields<'a>(
    mut message: &'a [u8],
    mut read: impl FnMut(u64, Value<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => take(&mut message, 8).map(|_| Value::Long)?,
            2 => {
                let length = varint(&mut message)?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => {
                let word = take(&mut message, 4)?;
                Value::Word(word.try_into().map_err(|_| fault("no word"))?)
            }
            _ => return Err(fault("no known encoding")),
        };
        read(tag >> 3, value)?;
    }
    Ok(())
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Result<&'a [u8], Error> {
    let split = usize::try_from(length).ok().and_then(|at| message.split_at_checked(at));
    let (taken, rest) = split.ok_or_else(|| fault("the end of the file"))?;
    *message = rest;
    Ok(taken)
}

/// Seven bits a byte, the lowest first; a byte below 128 is the last.
fn varint(message: &mut &[u8]) -> Result<u64, Error> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(fault("no number"))
}

#[cfg(test)]
mod tests {
    use super::{parse, varint};

    #[test]
    fn numbers() {
        let read = |mut bytes: &[u8]| varint(&mut bytes).ok();
        assert_eq!([read(&[5]), read(&[0xAC, 2]), read(&[0x80])], [Some(5), Some(300), None]);
        assert_eq!(read(&[0xFF; 11]), None);
        let most = [&[0xFF; 9][..], &[1]].concat();
        assert_eq!(read(&most), Some(u64::MAX));
    }

    #[test]
    fn fields_that_are_not_known_are_passed_over() {
        let piece = [10, 8, 10, 1, b'a', 21, 0, 0, 128, 63];
        let more = [0xA1, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0xA0, 6, 7];
        let file = [&piece[..], &more].concat();
        let model = parse(&file).map(|it| (it.pieces.texts, it.pieces.scores));
        assert_eq!(model, Ok((vec!["a"], vec![1.0])));
        for broken in [&piece[..7], &[10, 2, 10, 0], &[], &[10, 3, 10, 1, 0xFF], b"IQ== 1\n"] {
            assert_eq!(parse(broken).err().map(|error| error.code), Some("T0314"), "{broken:?}");
        }
    }
}
