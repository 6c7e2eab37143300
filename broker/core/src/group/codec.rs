//! How are the fields of a record of `__consumer_offsets` laid out?
//!
//! Big-endian integers; lengths in two or four bytes, or as varints in flexible versions, which end with tagged fields.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::record::RecordError;

pub(super) fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a request's strings and arrays are far below 2 GiB")
}

pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(
        i16::try_from(text.len()).expect("requests with longer strings are refused at the door"),
    );
    out.put_slice(text.as_bytes());
}

pub(super) fn put_nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.put_i16(-1),
    }
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(length(bytes.len()));
    out.put_slice(bytes);
}

/// Reads fields off the front of a record, never past its end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<&'a [u8], RecordError> {
        if self.0.len() < count {
            return Err(RecordError::Truncated { field });
        }
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn i16(&mut self, field: &'static str) -> Result<i16, RecordError> {
        Ok(self.take(field, 2)?.get_i16())
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        Ok(self.take(field, 4)?.get_i32())
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, RecordError> {
        Ok(self.take(field, 8)?.get_i64())
    }

    pub(super) fn version(&mut self, min: i16, max: i16) -> Result<i16, RecordError> {
        let version = self.i16("value version")?;
        if (min..=max).contains(&version) {
            Ok(version)
        } else {
            Err(RecordError::Version { version, min, max })
        }
    }

    pub(super) fn varint(&mut self, field: &'static str) -> Result<i64, RecordError> {
        let mut value = 0i64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(field, 1)?[0];
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Length {
            field,
            length: value,
        })
    }

    /// A length; `None` for null.
    pub(super) fn len(
        &mut self,
        field: &'static str,
        flexible: bool,
        short: bool,
    ) -> Result<Option<usize>, RecordError> {
        let length = match (flexible, short) {
            (true, _) => self.varint(field)? - 1,
            (false, true) => i64::from(self.i16(field)?),
            (false, false) => i64::from(self.i32(field)?),
        };
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            _ => Err(RecordError::Length { field, length }),
        }
    }

    pub(super) fn count(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<usize, RecordError> {
        Ok(self.len(field, flexible, false)?.unwrap_or(0))
    }

    pub(super) fn nullable(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Option<String>, RecordError> {
        let Some(length) = self.len(field, flexible, true)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(field, length)?)
            .map_err(|_| RecordError::Text { field })?;
        Ok(Some(text.to_owned()))
    }

    pub(super) fn text(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<String, RecordError> {
        Ok(self.nullable(field, flexible)?.unwrap_or_default())
    }

    pub(super) fn bytes(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Bytes, RecordError> {
        let length = self.len(field, flexible, false)?.unwrap_or(0);
        Ok(Bytes::copy_from_slice(self.take(field, length)?))
    }

    pub(super) fn skip_tags(&mut self) -> Result<(), RecordError> {
        for _ in 0..self.varint("tags")? {
            self.varint("tag")?;
            let length = self.varint("tag size")?;
            let size = usize::try_from(length).map_err(|_| RecordError::Length {
                field: "tag size",
                length,
            })?;
            self.take("tag value", size)?;
        }
        Ok(())
    }
}
