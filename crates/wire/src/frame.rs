//! How does a frame on a connection start: which API, version, correlation id and header does it have?
//!
//! A frame is an int32 length and that many bytes. The functions that read take the bytes after the length; those that
//! write put the length in front.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::message::{Message, Request, Response, WireStruct, write_checked};
use crate::messages::{ApiKey, RequestHeader, ResponseHeader};
use crate::reader::Reader;
use crate::tagged::TaggedFields;
use crate::writer::Writer;

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// Whether a version has compact types and tagged fields.
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        match self.flexible_since() {
            Some(since) => version >= since,
            None => false,
        }
    }

    /// The version of the header in front of a request: 2 has tagged fields.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header in front of a response. ApiVersions always has 0, so that a client that does not yet
    /// know the broker's versions can read it (KIP-511).
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) && !matches!(self, Self::ApiVersions) {
            1
        } else {
            0
        }
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the start of a request frame is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer than the eight bytes of API key, version and correlation id.
    #[error("failed to read a request header: {0} bytes, want at least 8")]
    TooShort(usize),
    /// An API that the codec does not know.
    #[error("failed to read a request: unknown API key {api_key} (version {version})")]
    UnknownApiKey {
        api_key: i16,
        version: i16,
        correlation_id: i32,
    },
    /// The rest of the header.
    #[error(transparent)]
    Header(#[from] DecodeError),
}

/// A request as far as its header; the body is decoded when the API's handler is known.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFrame {
    /// The API.
    pub api_key: ApiKey,
    /// The version asked for, which may be one that nobody knows: see [`RequestFrame::is_known_version`].
    pub version: i16,
    /// What the response has to repeat.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<String>,
    /// Tagged fields of a version 2 header.
    pub header_tags: TaggedFields,
    /// What follows the header; empty when the version is not known and the header could not be read.
    pub body: Bytes,
}

impl RequestFrame {
    /// Reads the header of a frame (without its length).
    ///
    /// A version that is not known is no error here: ApiVersions has to be answered even then, so a header that cannot
    /// be read with such a version counts as absent.
    ///
    /// # Errors
    /// Too few bytes, an unknown API, or a header that is not one.
    pub fn parse(frame: Bytes) -> Result<Self, FrameError> {
        let Some([k0, k1, v0, v1, c0, c1, c2, c3]) = frame.first_chunk() else {
            return Err(FrameError::TooShort(frame.len()));
        };
        let (key, version) = (
            i16::from_be_bytes([*k0, *k1]),
            i16::from_be_bytes([*v0, *v1]),
        );
        let correlation_id = i32::from_be_bytes([*c0, *c1, *c2, *c3]);
        let Some(api_key) = ApiKey::from_i16(key) else {
            return Err(FrameError::UnknownApiKey {
                api_key: key,
                version,
                correlation_id,
            });
        };
        let known = api_key.valid_versions().contains(&version);
        let mut body = frame;
        match RequestHeader::decode(&mut body, api_key.request_header_version(version)) {
            Ok(header) => Ok(Self {
                api_key,
                version,
                correlation_id,
                client_id: header.client_id,
                header_tags: header.unknown_tagged_fields,
                body,
            }),
            Err(error) if known => Err(error.into()),
            Err(_) => Ok(Self {
                api_key,
                version,
                correlation_id,
                client_id: None,
                header_tags: TaggedFields::default(),
                body: Bytes::new(),
            }),
        }
    }

    /// Whether the codec knows the version.
    #[must_use]
    pub fn is_known_version(&self) -> bool {
        self.api_key.valid_versions().contains(&self.version)
    }

    /// Reads the body. Bytes that follow the request are ignored, as Apache Kafka does: librdkafka 2.16 sends three
    /// such bytes when it asks for the metadata of all topics at a flexible version.
    ///
    /// # Errors
    /// The body is not a request `R` of the frame's version.
    pub fn decode<R: Request>(&self) -> Result<R, DecodeError> {
        R::decode(&mut self.body.clone(), self.version)
    }
}

/// A whole response frame, length included, in one piece.
///
/// # Errors
/// The version cannot carry the message.
pub fn encode_response<R: Response>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::contiguous(response_start::<R>(correlation_id, version)?);
    write_checked(response, &mut writer, version)?;
    Ok(writer.into_frame()?.swap_remove(0)) // a contiguous frame is one piece
}

/// A whole response frame, length included, with large records as slices of their own: for a vectored write.
///
/// # Errors
/// The version cannot carry the message.
pub fn encode_response_chunks<R: Response>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::spliced(response_start::<R>(correlation_id, version)?);
    write_checked(response, &mut writer, version)?;
    writer.into_frame()
}

fn response_start<R: Response>(correlation_id: i32, version: i16) -> Result<BytesMut, EncodeError> {
    let header = ResponseHeader {
        correlation_id,
        ..ResponseHeader::default()
    };
    frame_start(&header, R::KEY.response_header_version(version))
}

/// Room for the frame's length, and the header.
fn frame_start<H: Message>(header: &H, version: i16) -> Result<BytesMut, EncodeError> {
    let mut buf = BytesMut::with_capacity(256);
    buf.put_i32(0);
    header.encode(&mut buf, version)?;
    Ok(buf)
}

/// A whole request frame, length included, with large records as slices of their own.
///
/// # Errors
/// The version cannot carry the message.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Result<Vec<Bytes>, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.as_i16(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(str::to_owned),
        ..RequestHeader::default()
    };
    let start = frame_start(&header, R::KEY.request_header_version(version))?;
    let mut writer = Writer::spliced(start);
    write_checked(request, &mut writer, version)?;
    writer.into_frame()
}

/// Reads a response frame (without its length): the correlation id and the message, which takes all of the rest.
///
/// # Errors
/// The bytes are not such a response.
pub fn decode_response<R: Response>(frame: Bytes, version: i16) -> Result<(i32, R), DecodeError> {
    let mut body = frame;
    let header = ResponseHeader::decode(&mut body, R::KEY.response_header_version(version))?;
    Ok((header.correlation_id, R::decode_exact(body, version)?))
}

/// The correlation id at the start of a response frame, by which its request is found.
///
/// # Errors
/// Fewer than four bytes.
pub fn response_correlation_id(frame: &Bytes) -> Result<i32, DecodeError> {
    let mut reader = Reader::new(frame.clone());
    let header = ResponseHeader::read(&mut reader, 0);
    header
        .map(|h| h.correlation_id)
        .map_err(|e| e.of(ResponseHeader::NAME, 0))
}
