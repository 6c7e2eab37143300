//! Target: requests on a connection to a whole broker, which runs in this process.
#![no_main]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use broker::BrokerOptions;
use config::{BrokerConfig, Environment};
use fuzz::steps::{Api, TOPICS, apis, frames};
use libfuzzer_sys::fuzz_target;
use tokio_util::sync::CancellationToken;
use wire::messages::create_topics_request::CreatableTopic;
use wire::messages::{ApiVersionsRequest, CreateTopicsRequest};

/// How long answers are waited for: some requests (a join, a fetch) wait for others on purpose.
const PATIENCE: Duration = Duration::from_millis(25);
/// The most that a connection that behaves may have to wait.
const SERVED: Duration = Duration::from_secs(10);

struct Target {
    apis: Vec<Api>,
    address: String,
    inputs: AtomicU64,
}

static TARGET: LazyLock<Target> = LazyLock::new(Target::start);

impl Target {
    fn start() -> Self {
        // Every port is free for a process of its own address in 127.0.0.0/8.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = format!("127.77.{high}.{}", low.max(1));
        let dir = tempfile::tempdir().expect("a temporary directory").keep();
        let text = format!(
            "apiVersion: tidemark.dev/broker/v1\nclusterId: V-YTE1hAY2qOiVcjRJKeDA\n\
             nodes: [{{name: fuzz, id: 0, roles: [controller, broker], host: {host}}}]\n\
             dataDir: {}\nlisteners: [{{name: internal, port: 9092}}]\nbindHost: {host}\n\
             config:\n  auto.create.topics.enable: 'false'\n  default.replication.factor: '1'\n  min.insync.replicas: '1'\n  \
             offsets.topic.replication.factor: '1'\n  offsets.topic.num.partitions: '2'\n  \
             transaction.state.log.replication.factor: '1'\n  transaction.state.log.min.isr: '1'\n  \
             transaction.state.log.num.partitions: '2'\n",
            dir.display()
        );
        let options = BrokerOptions {
            config: BrokerConfig::parse("fuzz.yaml", &text).expect("the file is right"),
            node_name: Some("fuzz".to_owned()),
            environment: Environment::default(),
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            let ended = runtime.block_on(broker::run(options, CancellationToken::new()));
            panic!("the broker ended: {ended:?}");
        });
        let target = Self {
            apis: apis(),
            address: format!("{host}:9092"),
            inputs: AtomicU64::new(0),
        };
        target.make_topics();
        target
    }

    fn make_topics(&self) {
        let topics = TOPICS.map(|name| CreatableTopic {
            name: name.to_owned(),
            num_partitions: 2,
            replication_factor: 1,
            ..CreatableTopic::default()
        });
        let request = CreateTopicsRequest {
            topics: topics.to_vec(),
            timeout_ms: 5000,
            ..CreateTopicsRequest::default()
        };
        let frame = wire::encode_request(1, Some("fuzz"), 5, &request).expect("it encodes");
        self.call(&frame.concat());
    }

    /// A connection that behaves is served.
    fn call(&self, frame: &[u8]) {
        let deadline = Instant::now() + SERVED;
        let mut stream = loop {
            match TcpStream::connect(&self.address) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "no connection: {error}"),
            }
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(SERVED)).expect("a socket");
        stream.write_all(frame).expect("it is sent");
        let mut length = [0; 4];
        stream
            .read_exact(&mut length)
            .expect("a connection that behaves is answered");
    }

    fn run(&self, input: &[u8]) {
        let frames = frames(&self.apis, input);
        if frames.is_empty() {
            return;
        }
        let mut stream = TcpStream::connect(&self.address).expect("it accepts");
        let sent = stream.write_all(&frames.concat());
        if sent.is_ok() {
            read_answers(&mut stream, frames.len());
        }
        if self.inputs.fetch_add(1, Ordering::Relaxed) % 256 == 255 {
            let request = ApiVersionsRequest::default();
            let frame = wire::encode_request(1, Some("fuzz"), 0, &request).expect("it encodes");
            self.call(&frame.concat());
            self.make_topics();
        }
    }
}

/// Waits for as many answers as there were requests, for the end of the connection, or out of patience.
fn read_answers(stream: &mut TcpStream, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
    let answers = |bytes: &[u8]| {
        let (mut count, mut rest) = (0, bytes);
        while let [a, b, c, d, tail @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some(later) = tail.get(length..) else {
                break;
            };
            (count, rest) = (count + 1, later);
        }
        count
    };
    while answers(&bytes) < wanted {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fuzz_target!(|input: &[u8]| TARGET.run(input));
