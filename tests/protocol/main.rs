//! Does a running broker answer raw bytes as Kafka would, and survive those that Kafka never sends?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api_versions;
mod frames;
mod hostile;
mod idle;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A blocking connection that sends and receives whole frames.
pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one frame with its length in front.
    pub(crate) fn send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.stream.write_all(&bytes)
    }

    /// The next frame without its length.
    pub(crate) fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Whether the peer has closed (waits up to the read timeout).
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte), Ok(1))
    }
}
