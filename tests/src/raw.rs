//! How does a test speak Kafka's protocol byte by byte, with nothing of a client between?

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::produce_response::PartitionProduceResponse;
use wire::messages::{CreateTopicsRequest, ProduceRequest};
use wire::{Request, decode_response, encode_request};

/// A blocking connection that sends and receives whole frames.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects; reads give up after 30 s.
    ///
    /// # Panics
    /// When nothing listens there.
    #[must_use]
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("failed to connect to {address}: {error}"));
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a socket takes nodelay");
        Self { stream }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one frame with its length in front.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.stream.write_all(&bytes)
    }

    /// The next frame without its length.
    ///
    /// # Errors
    /// When the peer has closed, or sends nothing.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Whether the peer has closed (waits up to the read timeout).
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ),
        }
    }

    /// Sends a request and decodes its answer.
    ///
    /// # Panics
    /// When the broker does not answer, or with something else.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let chunks = encode_request(1, Some("tests"), version, request).expect("it encodes");
        self.send_bytes(&chunks.concat()).expect("it is sent");
        let frame = self.receive().expect("it is answered");
        decode_response::<R::Response>(frame.into(), version)
            .expect("a well-formed answer")
            .1
    }

    /// Produces a batch to one partition; what is answered of it.
    ///
    /// # Panics
    /// As [`Raw::call`].
    pub fn produce(
        &mut self,
        (topic, index): (&str, i32),
        acks: i16,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let partition = PartitionProduceData {
            index,
            records: Some(batch),
            ..Default::default()
        };
        let topic = TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![partition],
            ..Default::default()
        };
        let request = ProduceRequest {
            acks,
            timeout_ms: 10_000,
            topic_data: vec![topic],
            ..Default::default()
        };
        let mut answer = self.call(9, &request);
        answer.responses.remove(0).partition_responses.remove(0)
    }

    /// Creates a topic of one partition and one replica, with these keys of its own.
    ///
    /// # Panics
    /// When it is refused, and as [`Raw::call`].
    pub fn create_topic(&mut self, name: &str, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            ..Default::default()
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned(),
                num_partitions: 1,
                replication_factor: 1,
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: 30_000,
            ..Default::default()
        };
        let answer = self.call(7, &request);
        let created = &answer.topics[0];
        assert_eq!(created.error_code, 0, "{:?}", created.error_message);
    }
}
