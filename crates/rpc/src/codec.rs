//! How is a message put on the wire with one allocation and one copy?
//!
//! tonic's stock codec grows its buffer while prost writes into it, which copies a 1 MiB message several times.
//! This one reserves the encoded length first; the bytes on the wire are the same.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Capacity that a stream's send buffer starts with; most messages between brokers are small.
const BUFFER_BYTES: usize = 8 * 1024;
/// Buffered bytes at which a stream hands what it has to HTTP/2 instead of waiting for more messages.
const YIELD_BYTES: usize = 256 * 1024;

/// The codec that the generated clients and servers use.
#[derive(Debug)]
pub struct FrameCodec<T, U>(PhantomData<fn() -> (T, U)>);

impl<T, U> Default for FrameCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for FrameCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = FrameEncoder<T>;
    type Decoder = FrameDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        FrameDecoder(PhantomData)
    }
}

/// Writes messages of type `T`.
#[derive(Debug)]
pub struct FrameEncoder<T>(PhantomData<fn() -> T>);

impl<T: Message> Encoder for FrameEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer)
            .map_err(|error| Status::internal(format!("failed to encode a message: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Reads messages of type `U`.
#[derive(Debug)]
pub struct FrameDecoder<U>(PhantomData<fn() -> U>);

impl<U: Message + Default> Decoder for FrameDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buffer)
            .map(Some)
            .map_err(|error| Status::internal(format!("failed to decode a message: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
