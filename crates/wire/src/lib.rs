//! How are Kafka's requests, responses and stored records written as bytes, and read back from hostile ones?
//!
//! The messages are generated from `tables/*.table` (see `tables/README.md`). Reading checks every count and length
//! against the bytes that remain before anything is allocated, and bounds the memory of decoded elements by the
//! frame's size; `records` fields are slices of the frame. Writing refuses a field that the version cannot carry,
//! unless it has its default or the protocol calls it ignorable.
//!
//! `Default` of a message gives Kafka's defaults: a nullable field without a declared default starts as `Some(empty)`,
//! not `None`.

#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod error;
pub mod frame;
pub mod message;
pub mod reader;
pub mod records;
pub mod tagged;
pub mod writer;

/// What the generated code uses.
mod generated {
    pub(crate) use std::ops::RangeInclusive;

    pub(crate) use bytes::Bytes;
    pub(crate) use types::TopicId;

    pub(crate) use crate::error::{DecodeError, EncodeError};
    pub(crate) use crate::message::{Message, RecordKey, Request, Response, WireStruct};
    pub(crate) use crate::messages::ApiKey;
    pub(crate) use crate::reader::Reader;
    pub(crate) use crate::records::Records;
    pub(crate) use crate::tagged::TaggedFields;
    pub(crate) use crate::writer::Writer;
}

/// One module per message, under Kafka's own names; the messages themselves are re-exported here.
#[allow(clippy::all, unused_qualifications, unused_imports)] // generated
pub mod messages {
    use crate::generated::*;

    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use frame::{
    FrameError, RequestFrame, decode_response, encode_request, encode_response,
    encode_response_chunks, response_correlation_id,
};
pub use message::{Message, RecordKey, Request, Response, record_type};
pub use messages::ApiKey;
pub use records::Records;
pub use tagged::TaggedFields;
