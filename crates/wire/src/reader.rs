//! How are Kafka's primitive types, arrays and tagged fields read, so that no bytes can make us panic or allocate without bound?

use bytes::Bytes;
use types::TopicId;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::message::WireStruct;
use crate::tagged::TaggedFields;

/// Memory that decoded elements may take whatever the frame's size: enough for any small request.
const MEMORY_FLOOR: usize = 1 << 20;
/// Memory that decoded elements may take per byte of the frame. Honest messages stay below 5 (a fetch partition has 33
/// bytes on the wire and about 70 in memory); an array of empty strings would reach 24.
const MEMORY_PER_BYTE: usize = 8;
/// The longest string, also in flexible versions (Kafka's own limit).
pub(crate) const MAX_STRING: usize = i16::MAX as usize;

/// A cursor over one frame.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    offset: usize,
    /// Bytes of memory that elements of arrays may still take.
    memory: usize,
    /// The field being read, for errors.
    field: &'static str,
}

type Result<T> = std::result::Result<T, DecodeError>;

macro_rules! numbers {
    ($($name:ident),*) => {$(
        pub(crate) fn $name(&mut self) -> Result<$name> {
            self.take().map($name::from_be_bytes)
        }
    )*};
}

impl Reader {
    /// A cursor at the start of `frame`.
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        let memory = frame
            .len()
            .saturating_mul(MEMORY_PER_BYTE)
            .saturating_add(MEMORY_FLOOR);
        Self {
            frame,
            offset: 0,
            memory,
            field: "",
        }
    }

    /// How many bytes were read.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes were not read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.offset
    }

    pub(crate) fn field(&mut self, name: &'static str) {
        self.field = name;
    }

    #[cold]
    fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(kind, self.field, self.offset)
    }

    fn check(&self, needed: usize) -> Result<()> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(self.error(DecodeErrorKind::Truncated { needed, remaining }));
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.frame[self.offset..].first_chunk() {
            Some(bytes) => {
                self.offset += N;
                Ok(*bytes)
            }
            None => {
                let remaining = self.remaining();
                Err(self.error(DecodeErrorKind::Truncated {
                    needed: N,
                    remaining,
                }))
            }
        }
    }

    numbers!(i8, i16, u16, i32, i64, f64);

    pub(crate) fn bool(&mut self) -> Result<bool> {
        self.i8().map(|byte| byte != 0)
    }

    pub(crate) fn uuid(&mut self) -> Result<TopicId> {
        self.take().map(TopicId)
    }

    fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(DecodeErrorKind::Varint))
    }

    /// A length or count; `None` for null. `short`: an int16 when not flexible, else an int32.
    fn length(&mut self, flexible: bool, short: bool) -> Result<Option<usize>> {
        let length = if flexible {
            i64::from(self.uvarint()?) - 1
        } else if short {
            i64::from(self.i16()?)
        } else {
            i64::from(self.i32()?)
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(DecodeErrorKind::Length(length))),
        }
    }

    fn not_null<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(DecodeErrorKind::Null))
    }

    fn null_if<T>(&self, value: Option<T>, allowed: bool) -> Result<Option<T>> {
        if value.is_none() && !allowed {
            return Err(self.error(DecodeErrorKind::Null));
        }
        Ok(value)
    }

    fn maybe_string(&mut self, flexible: bool) -> Result<Option<String>> {
        let Some(length) = self.length(flexible, true)? else {
            return Ok(None);
        };
        if length > MAX_STRING {
            return Err(self.error(DecodeErrorKind::Length(
                i64::try_from(length).unwrap_or(i64::MAX),
            )));
        }
        self.check(length)?;
        let text = std::str::from_utf8(&self.frame[self.offset..self.offset + length])
            .map_err(|_| self.error(DecodeErrorKind::Utf8))?
            .to_owned();
        self.offset += length;
        Ok(Some(text))
    }

    pub(crate) fn string(&mut self, flexible: bool) -> Result<String> {
        let value = self.maybe_string(flexible)?;
        self.not_null(value)
    }

    pub(crate) fn nullable_string(&mut self, flexible: bool, null: bool) -> Result<Option<String>> {
        let value = self.maybe_string(flexible)?;
        self.null_if(value, null)
    }

    fn slice(&mut self, length: usize) -> Result<Bytes> {
        self.check(length)?;
        let slice = self.frame.slice(self.offset..self.offset + length);
        self.offset += length;
        Ok(slice)
    }

    /// Bytes are copied, since they outlive the frame (group metadata, credentials), which they must not keep in memory.
    pub(crate) fn bytes(&mut self, flexible: bool) -> Result<Bytes> {
        let value = self.nullable_bytes(flexible, true)?;
        self.not_null(value)
    }

    pub(crate) fn nullable_bytes(&mut self, flexible: bool, null: bool) -> Result<Option<Bytes>> {
        let value = self.nullable_records(flexible, null)?;
        Ok(value.map(|slice| Bytes::copy_from_slice(&slice)))
    }

    /// Records are a slice of the frame.
    pub(crate) fn nullable_records(&mut self, flexible: bool, null: bool) -> Result<Option<Bytes>> {
        let length = self.length(flexible, false)?;
        match self.null_if(length, null)? {
            Some(length) => self.slice(length).map(Some),
            None => Ok(None),
        }
    }

    /// Checks that `count` elements can be in the bytes that remain and may be in memory.
    fn admit<T>(&mut self, count: usize, min_size: usize) -> Result<()> {
        let remaining = self.remaining();
        if count > remaining / min_size.max(1) {
            return Err(self.error(DecodeErrorKind::Count { count, remaining }));
        }
        self.charge(count.saturating_mul(size_of::<T>()))
    }

    fn charge(&mut self, needed: usize) -> Result<()> {
        let Some(left) = self.memory.checked_sub(needed) else {
            return Err(self.error(DecodeErrorKind::Memory {
                needed,
                left: self.memory,
            }));
        };
        self.memory = left;
        Ok(())
    }

    fn elements<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        is_struct: bool,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.length(flexible, false)? else {
            return Ok(None);
        };
        self.admit::<T>(count, min_size)?;
        let field = self.field;
        let mut items = Vec::with_capacity(count);
        for index in 0..count {
            items.push(item(self).map_err(|e| e.within(field, Some(index), is_struct))?);
        }
        self.field = field;
        Ok(Some(items))
    }

    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let value = self.elements(flexible, min_size, false, item)?;
        self.not_null(value)
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        null: bool,
        min_size: usize,
        item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let value = self.elements(flexible, min_size, false, item)?;
        self.null_if(value, null)
    }

    pub(crate) fn structs<T: WireStruct>(
        &mut self,
        flexible: bool,
        version: i16,
    ) -> Result<Vec<T>> {
        let value = self.elements(flexible, T::MIN_SIZE, true, |r| T::read(r, version))?;
        self.not_null(value)
    }

    pub(crate) fn nullable_structs<T: WireStruct>(
        &mut self,
        flexible: bool,
        null: bool,
        version: i16,
    ) -> Result<Option<Vec<T>>> {
        let value = self.elements(flexible, T::MIN_SIZE, true, |r| T::read(r, version))?;
        self.null_if(value, null)
    }

    pub(crate) fn nested<T: WireStruct>(&mut self, version: i16) -> Result<T> {
        let field = self.field;
        T::read(self, version).map_err(|e| e.within(field, None, true))
    }

    /// A nullable struct has an int8 in front: -1 for null, 1 for a value.
    pub(crate) fn nullable_nested<T: WireStruct>(
        &mut self,
        version: i16,
        null: bool,
    ) -> Result<Option<T>> {
        match self.i8()? {
            -1 if null => Ok(None),
            -1 => Err(self.error(DecodeErrorKind::Null)),
            1.. => self.nested(version).map(Some),
            byte => Err(self.error(DecodeErrorKind::Presence(byte))),
        }
    }

    pub(crate) fn tag_count(&mut self) -> Result<u32> {
        self.field = "(tagged fields)";
        self.uvarint()
    }

    /// A tag and the offset at which its value must end.
    pub(crate) fn tag_start(&mut self) -> Result<(u32, usize)> {
        self.field = "(tagged fields)";
        let tag = self.uvarint()?;
        let size = self.uvarint()?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.check(size)?;
        Ok((tag, self.offset + size))
    }

    pub(crate) fn tag_end(&mut self, end: usize) -> Result<()> {
        if self.offset == end {
            return Ok(());
        }
        Err(self.error(DecodeErrorKind::TagEnd { stated: end }))
    }

    pub(crate) fn unknown_tag(
        &mut self,
        tag: u32,
        end: usize,
        into: &mut TaggedFields,
    ) -> Result<()> {
        // The first allocates the list, with room for four; later ones double it.
        let fields = if into.is_empty() { 5 } else { 2 };
        self.charge(fields * size_of::<(u32, Bytes)>())?;
        let value = self.slice(end - self.offset)?;
        into.push_unsorted(tag, value);
        Ok(())
    }
}
