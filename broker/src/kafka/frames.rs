//! How are length-prefixed frames read from a stream without trusting their lengths?

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of the length in front of a frame.
const LENGTH: usize = 4;
/// Room made for one read when nothing more is known.
const READ_CHUNK: usize = 8 * 1024;
/// Most room made ahead of the data: a frame that only claims to be long costs its sender the bytes.
const MAX_AHEAD: usize = 1024 * 1024;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameReadError {
    /// The length is negative or above the limit.
    #[error("frame length {length} is not within 0 and socket.request.max.bytes = {max}")]
    Length {
        /// The length on the wire.
        length: i32,
        /// The limit.
        max: usize,
    },
    /// The stream ended within a frame.
    #[error("connection ended within a frame, after {have} bytes")]
    Cut {
        /// Bytes of the unfinished frame.
        have: usize,
    },
    /// A frame has begun and does not go on.
    #[error("request frame stalled for {0:?}")]
    Stalled(Duration),
    /// The stream failed.
    #[error("failed to read from the connection: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads frames; what it has read so far survives a dropped future, so it may be used in `select!`.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buf: BytesMut,
    max_frame: usize,
}

impl FrameReader {
    pub(crate) fn new(max_frame: usize) -> Self {
        Self {
            buf: BytesMut::new(),
            max_frame,
        }
    }

    /// The length of the frame at the front, once its four bytes are there.
    pub(crate) fn frame_length(&self) -> Result<Option<usize>, FrameReadError> {
        let Some(bytes) = self.buf.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*bytes);
        match usize::try_from(length) {
            Ok(size) if size <= self.max_frame => Ok(Some(size)),
            _ => Err(FrameReadError::Length {
                length,
                max: self.max_frame,
            }),
        }
    }

    /// Whether a frame has begun but is not whole.
    pub(crate) fn is_within_frame(&self) -> bool {
        !self.buf.is_empty()
    }

    /// Takes the frame at the front if it is whole.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, FrameReadError> {
        let Some(size) = self.frame_length()? else {
            return Ok(None);
        };
        if self.buf.len() < LENGTH + size {
            return Ok(None);
        }
        let mut frame = self.buf.split_to(LENGTH + size).freeze();
        Ok(Some(frame.split_off(LENGTH)))
    }

    /// As [`FrameReader::fill`], but a frame that has begun must go on within `stall`.
    pub(crate) async fn fill_within<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        stall: Duration,
    ) -> Result<bool, FrameReadError> {
        if !self.is_within_frame() {
            return self.fill(stream).await;
        }
        match tokio::time::timeout(stall, self.fill(stream)).await {
            Ok(filled) => filled,
            Err(_) => Err(FrameReadError::Stalled(stall)),
        }
    }

    /// Reads once; `false` at the end of the stream.
    async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<bool, FrameReadError> {
        let missing = match self.frame_length()? {
            Some(size) => (LENGTH + size).saturating_sub(self.buf.len()),
            None => READ_CHUNK,
        };
        // Doubling what has arrived bounds the copying; the frame's own size bounds the room.
        let ahead = missing.min(self.buf.len().max(MAX_AHEAD));
        if self.buf.capacity() - self.buf.len() < ahead.min(READ_CHUNK) {
            self.buf.reserve(ahead.max(READ_CHUNK));
        }
        match stream.read_buf(&mut self.buf).await? {
            0 if self.buf.is_empty() => Ok(false),
            0 => Err(FrameReadError::Cut {
                have: self.buf.len(),
            }),
            _ => Ok(true),
        }
    }
}
