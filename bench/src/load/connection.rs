//! How is one request sent and one response received over a blocking socket?

use std::io::{IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use wire::{Request, decode_response, encode_request};

/// A connection whose answers come in the order of its requests.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    next_correlation: i32,
}

impl Connection {
    pub(crate) fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self {
            stream,
            next_correlation: 1,
        })
    }

    /// Sends without waiting for the answer.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<()> {
        let chunks = encode_request(self.next_correlation, Some("bench"), version, request)?;
        self.next_correlation += 1;
        let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = self.stream.write_vectored(rest)?;
            if written == 0 {
                bail!("the broker closed the connection");
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Waits for the next answer's bytes.
    pub(crate) fn receive_frame(&mut self) -> anyhow::Result<Bytes> {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .context("failed to read a response")?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream
            .read_exact(&mut frame)
            .context("failed to read a response")?;
        Ok(frame.into())
    }

    /// Waits for the next answer.
    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> anyhow::Result<R::Response> {
        Ok(decode_response::<R::Response>(self.receive_frame()?, version)?.1)
    }

    /// Sends and waits.
    pub(crate) fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> anyhow::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }
}
