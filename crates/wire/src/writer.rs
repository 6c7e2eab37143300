//! How are Kafka's primitive types, arrays and tagged fields written, and large records spliced in without copying?

use std::iter::Peekable;

use bytes::{BufMut, Bytes, BytesMut};
use types::TopicId;

use crate::error::EncodeError;
use crate::reader::MAX_STRING;
use crate::records::Records;
use crate::tagged::TaggedFields;

/// Records of at least this many bytes are spliced; below it a copy is cheaper than one more slice to write.
const SPLICE_MIN: usize = 2048;

/// Where a message is written: one buffer, or a list of slices with large records spliced in.
#[derive(Debug)]
pub struct Writer {
    buf: BytesMut,
    /// What stands before `buf`; the first is kept unfrozen so that the frame's length can be put into it.
    head: Option<BytesMut>,
    chunks: Vec<Bytes>,
    spliced: bool,
}

type Result<T> = std::result::Result<T, EncodeError>;

macro_rules! numbers {
    ($($name:ident $put:ident),*) => {$(
        pub(crate) fn $name(&mut self, value: $name) {
            self.buf.$put(value);
        }
    )*};
}

impl Writer {
    /// Appends to `buf`, records included.
    pub(crate) fn contiguous(buf: BytesMut) -> Self {
        Self {
            buf,
            head: None,
            chunks: Vec::new(),
            spliced: false,
        }
    }

    /// Writes a list of slices, starting with `buf`.
    pub(crate) fn spliced(buf: BytesMut) -> Self {
        Self {
            buf,
            head: None,
            chunks: Vec::new(),
            spliced: true,
        }
    }

    pub(crate) fn into_buf(self) -> BytesMut {
        self.buf
    }

    /// Puts the length of what follows the first four bytes into them and gives all slices.
    pub(crate) fn into_frame(self) -> Result<Vec<Bytes>> {
        let Self {
            mut buf,
            head,
            chunks,
            ..
        } = self;
        let rest: usize = chunks.iter().map(Bytes::len).sum();
        let total = head.as_ref().map_or(0, BytesMut::len) + rest + buf.len();
        let length = length_i32("frame", total.saturating_sub(4))?.to_be_bytes();
        let Some(mut head) = head else {
            buf[..4].copy_from_slice(&length);
            return Ok(vec![buf.freeze()]);
        };
        head[..4].copy_from_slice(&length);
        let mut frame = Vec::with_capacity(chunks.len() + 2);
        frame.push(head.freeze());
        frame.extend(chunks);
        if !buf.is_empty() {
            frame.push(buf.freeze());
        }
        Ok(frame)
    }

    numbers!(i8 put_i8, i16 put_i16, u16 put_u16, i32 put_i32, i64 put_i64, f64 put_f64);

    pub(crate) fn bool(&mut self, value: bool) {
        self.buf.put_u8(u8::from(value));
    }

    pub(crate) fn uuid(&mut self, value: TopicId) {
        self.buf.put_slice(&value.0);
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.put_u8(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(value.to_le_bytes()[0]);
    }

    /// A compact length: one more than it is, since zero is null.
    fn compact_length(&mut self, field: &'static str, len: usize) -> Result<()> {
        let len = length_i32(field, len)?;
        self.uvarint(len.unsigned_abs() + 1);
        Ok(())
    }

    pub(crate) fn string(
        &mut self,
        field: &'static str,
        value: &str,
        flexible: bool,
    ) -> Result<()> {
        let len = value.len();
        let short = i16::try_from(len).map_err(|_| EncodeError::TooLong {
            field,
            len,
            max: MAX_STRING,
        })?;
        if flexible {
            self.uvarint(u32::from(short.unsigned_abs()) + 1);
        } else {
            self.buf.put_i16(short);
        }
        self.buf.put_slice(value.as_bytes());
        Ok(())
    }

    pub(crate) fn nullable_string(
        &mut self,
        field: &'static str,
        value: Option<&str>,
        flexible: bool,
        null: bool,
    ) -> Result<()> {
        match value {
            Some(value) => self.string(field, value, flexible),
            None if !null => Err(EncodeError::Null { field }),
            None if flexible => {
                self.buf.put_u8(0);
                Ok(())
            }
            None => {
                self.buf.put_i16(-1);
                Ok(())
            }
        }
    }

    pub(crate) fn array_len(
        &mut self,
        field: &'static str,
        len: usize,
        flexible: bool,
    ) -> Result<()> {
        if flexible {
            return self.compact_length(field, len);
        }
        self.buf.put_i32(length_i32(field, len)?);
        Ok(())
    }

    pub(crate) fn null_array(
        &mut self,
        field: &'static str,
        flexible: bool,
        null: bool,
    ) -> Result<()> {
        match (null, flexible) {
            (false, _) => return Err(EncodeError::Null { field }),
            (true, true) => self.buf.put_u8(0),
            (true, false) => self.buf.put_i32(-1),
        }
        Ok(())
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        value: &[u8],
        flexible: bool,
    ) -> Result<()> {
        self.array_len(field, value.len(), flexible)?;
        self.buf.put_slice(value);
        Ok(())
    }

    /// Bytes or records, spliced when large.
    pub(crate) fn nullable_chunks<C: Chunks>(
        &mut self,
        field: &'static str,
        value: Option<&C>,
        flexible: bool,
        null: bool,
    ) -> Result<()> {
        let Some(value) = value else {
            return self.null_array(field, flexible, null);
        };
        let chunks = value.as_chunks();
        self.array_len(field, chunks.iter().map(Bytes::len).sum(), flexible)?;
        for chunk in chunks {
            self.splice(chunk);
        }
        Ok(())
    }

    fn splice(&mut self, chunk: &Bytes) {
        if !self.spliced || chunk.len() < SPLICE_MIN {
            self.buf.put_slice(chunk);
            return;
        }
        let before = self.buf.split();
        if self.head.is_none() {
            self.head = Some(before);
        } else if !before.is_empty() {
            self.chunks.push(before.freeze());
        }
        self.chunks.push(chunk.clone());
    }

    /// The int8 in front of a nullable struct: 1 for a value, -1 for null.
    pub(crate) fn presence(
        &mut self,
        field: &'static str,
        present: bool,
        null: bool,
    ) -> Result<()> {
        if !present && !null {
            return Err(EncodeError::Null { field });
        }
        self.buf.put_i8(if present { 1 } else { -1 });
        Ok(())
    }

    pub(crate) fn tag_count(&mut self, known: usize, unknown: &TaggedFields) {
        // Both are far below 2^32: known tags come from a table, unknown ones from a frame of at most 2^31 bytes.
        self.uvarint(u32::try_from(known + unknown.len()).unwrap_or(u32::MAX));
    }

    pub(crate) fn unknown_tags(&mut self, unknown: &TaggedFields) {
        self.tag_count(0, unknown);
        self.unknown_tags_below(&mut unknown.iter().peekable(), u32::MAX);
    }

    /// Writes the unknown fields that come before a known tag.
    pub(crate) fn unknown_tags_below<'a>(
        &mut self,
        unknown: &mut Peekable<impl Iterator<Item = &'a (u32, Bytes)>>,
        tag: u32,
    ) {
        while let Some((unknown_tag, value)) = unknown.next_if(|(t, _)| *t < tag || tag == u32::MAX)
        {
            self.tag_header(*unknown_tag, value.len());
            self.buf.put_slice(value);
        }
    }

    fn tag_header(&mut self, tag: u32, size: usize) {
        self.uvarint(tag);
        self.uvarint(u32::try_from(size).unwrap_or(u32::MAX));
    }

    /// Writes a known tagged field: its tag, its size, and what `value` writes.
    pub(crate) fn tagged(
        &mut self,
        tag: u32,
        value: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let outer = std::mem::take(&mut self.buf);
        let spliced = std::mem::replace(&mut self.spliced, false);
        let result = value(self);
        self.spliced = spliced;
        let inner = std::mem::replace(&mut self.buf, outer);
        result?;
        length_i32("tagged field", inner.len())?;
        self.tag_header(tag, inner.len());
        self.buf.put_slice(&inner);
        Ok(())
    }
}

/// What may be spliced into a frame.
pub(crate) trait Chunks {
    fn as_chunks(&self) -> &[Bytes];
}

impl Chunks for Bytes {
    fn as_chunks(&self) -> &[Bytes] {
        std::slice::from_ref(self)
    }
}

impl Chunks for Records {
    fn as_chunks(&self) -> &[Bytes] {
        self.chunks()
    }
}

fn length_i32(field: &'static str, len: usize) -> Result<i32> {
    const MAX: usize = i32::MAX as usize - 1; // a compact length is one more than it is
    match i32::try_from(len) {
        Ok(length) if len <= MAX => Ok(length),
        _ => Err(EncodeError::TooLong {
            field,
            len,
            max: MAX,
        }),
    }
}
