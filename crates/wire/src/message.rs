//! What can every message do, and what do requests, responses and record keys add?

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::messages::ApiKey;
use crate::reader::Reader;
use crate::writer::Writer;

/// A message or a struct inside one; implemented by generated code only.
pub trait WireStruct: Default + Clone + Debug + PartialEq + Send + Sync + 'static {
    /// The fewest bytes it takes on the wire in any version.
    const MIN_SIZE: usize;

    /// Reads the struct; the caller has checked the version.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, with the path inside this struct.
    fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the struct; the caller has checked the version.
    ///
    /// # Errors
    /// A value that the version cannot carry.
    fn write(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A whole message with its own versions.
pub trait Message: WireStruct {
    /// Kafka's name of the message.
    const NAME: &'static str;
    /// The versions that the codec reads and writes.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact types and tagged fields.
    const FLEXIBLE_SINCE: Option<i16>;

    /// Appends the message to `buf`; on an error `buf` is as it was.
    ///
    /// # Errors
    /// The version is not known, or cannot carry a value.
    fn encode(&self, buf: &mut BytesMut, version: i16) -> Result<(), EncodeError> {
        let before = buf.len();
        let mut writer = Writer::contiguous(std::mem::take(buf));
        let result = write_checked(self, &mut writer, version);
        *buf = writer.into_buf();
        if result.is_err() {
            buf.truncate(before);
        }
        result
    }

    /// Reads one message from the front of `buf` and leaves what follows; on an error `buf` is as it was.
    ///
    /// # Errors
    /// The version is not known, or the bytes are not such a message.
    fn decode(buf: &mut Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(buf.clone());
        let message = read_checked(&mut reader, version)?;
        buf.advance(reader.offset());
        Ok(message)
    }

    /// Reads a message that takes all of `bytes`.
    ///
    /// # Errors
    /// As [`Message::decode`], and when bytes follow the message.
    fn decode_exact(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = read_checked(&mut reader, version)?;
        match reader.remaining() {
            0 => Ok(message),
            more => {
                let kind = DecodeErrorKind::Trailing(more);
                Err(DecodeError::new(kind, "", reader.offset()).of(Self::NAME, version))
            }
        }
    }

    /// The message with its version (int16) in front, as stored record values and the consumer protocol have it.
    ///
    /// # Errors
    /// As [`Message::encode`].
    fn encode_versioned(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut buf = BytesMut::with_capacity(64);
        buf.put_i16(version);
        self.encode(&mut buf, version)?;
        Ok(buf.freeze())
    }

    /// Reads what [`Message::encode_versioned`] wrote; gives the version too.
    ///
    /// # Errors
    /// As [`Message::decode_exact`]; a version newer than known is an error.
    fn decode_versioned(mut bytes: Bytes) -> Result<(i16, Self), DecodeError> {
        let version = leading_i16(&mut bytes).map_err(|e| e.of(Self::NAME, -1))?;
        Ok((version, Self::decode_exact(bytes, version)?))
    }

    /// Like [`Message::decode_versioned`], but reads a newer version as the newest known one and ignores what follows,
    /// as the consumer protocol asks (its versions only append fields).
    ///
    /// # Errors
    /// As [`Message::decode`]; a version below the known ones is an error.
    fn decode_versioned_lenient(mut bytes: Bytes) -> Result<(i16, Self), DecodeError> {
        let version = leading_i16(&mut bytes).map_err(|e| e.of(Self::NAME, -1))?;
        let readable = version.min(*Self::VERSIONS.end());
        Ok((version, Self::decode(&mut bytes, readable)?))
    }
}

/// A request: its API and its answer.
pub trait Request: Message {
    /// The API.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Response;
}

/// A response of an API.
pub trait Response: Message {
    /// The API.
    const KEY: ApiKey;
}

/// The key of a stored record; its type stands in front, where a value has its version.
pub trait RecordKey: Message {
    /// The number that says which kind of key this is.
    const TYPE: i16;

    /// The key with its type in front.
    ///
    /// # Errors
    /// As [`Message::encode`].
    fn encode_key(&self) -> Result<Bytes, EncodeError> {
        let mut buf = BytesMut::with_capacity(64);
        buf.put_i16(Self::TYPE);
        self.encode(&mut buf, 0)?;
        Ok(buf.freeze())
    }

    /// Reads what [`RecordKey::encode_key`] wrote. Use [`record_type`] to find out which key it is.
    ///
    /// # Errors
    /// Another type of key, or bytes that are not such a key.
    fn decode_key(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let found = leading_i16(&mut bytes).map_err(|e| e.of(Self::NAME, 0))?;
        if found != Self::TYPE {
            let kind = DecodeErrorKind::KeyType {
                want: Self::TYPE,
                found,
            };
            return Err(DecodeError::new(kind, "", 0).of(Self::NAME, 0));
        }
        Self::decode_exact(bytes, 0)
    }
}

/// The type number in front of a record's key; `None` for a key too short to have one.
#[must_use]
pub fn record_type(key: &[u8]) -> Option<i16> {
    key.first_chunk().map(|bytes| i16::from_be_bytes(*bytes))
}

fn leading_i16(bytes: &mut Bytes) -> Result<i16, DecodeError> {
    let version = record_type(bytes).ok_or_else(|| {
        let kind = DecodeErrorKind::Truncated {
            needed: 2,
            remaining: bytes.len(),
        };
        DecodeError::new(kind, "", 0)
    })?;
    bytes.advance(2);
    Ok(version)
}

/// Writes a message after checking its version.
pub(crate) fn write_checked<M: Message>(
    message: &M,
    writer: &mut Writer,
    version: i16,
) -> Result<(), EncodeError> {
    let (min, max) = (*M::VERSIONS.start(), *M::VERSIONS.end());
    if !(min..=max).contains(&version) {
        return Err(EncodeError::Version {
            message: M::NAME,
            version,
            min,
            max,
        });
    }
    message.write(writer, version)
}

fn read_checked<M: Message>(reader: &mut Reader, version: i16) -> Result<M, DecodeError> {
    let (min, max) = (*M::VERSIONS.start(), *M::VERSIONS.end());
    if !(min..=max).contains(&version) {
        let kind = DecodeErrorKind::Version { min, max };
        return Err(DecodeError::new(kind, "", 0).of(M::NAME, version));
    }
    M::read(reader, version).map_err(|e| e.of(M::NAME, version))
}
