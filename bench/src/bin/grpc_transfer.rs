//! How many MB/s can three brokers move to each other over gRPC, and what does a GB cost in CPU seconds?
//!
//! Three processes with a fake log: each one leads a third of the data and pushes it to the two others over one
//! bidirectional stream per (follower, leader) pair, exactly as replication does: one message = headers + ONE
//! bytes blob, bounded credit, one ack per message. The parent starts the three, sums their figures, prints a line.
#![allow(
    clippy::print_stdout,
    reason = "this is a command, its result is its output"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EnabledCompressionEncodings};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

const PATH: &str = "/tidemark.bench.Transfer/Pull";
/// Messages in flight per stream: with 1 MiB messages that is 4 MiB, twice the HTTP/2 window.
const CREDIT: usize = 4;

#[derive(Parser, Debug, Clone)]
struct Args {
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Size of the blob of one message, in KiB.
    #[arg(long, default_value_t = 512)]
    message_kib: usize,
    /// HTTP/2 stream and connection window, in KiB.
    #[arg(long, default_value_t = 2048)]
    window_kib: u32,
    /// HTTP/2 frame size, in KiB.
    #[arg(long, default_value_t = 1024)]
    frame_kib: u32,
    /// Runs; the best one is stated.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Worker threads of each process.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// (internal) which of the three this process is.
    #[arg(long)]
    node: Option<usize>,
    /// (internal) addresses of the three.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<SocketAddr>,
}

/// Where one batch of the blob lies.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    partition: u32,
    #[prost(int64, tag = "2")]
    base_offset: i64,
    #[prost(uint32, tag = "3")]
    length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Batches {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "2")]
    blob: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ack {
    #[prost(uint32, tag = "1")]
    messages: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    received_bytes: u64,
    cpu_seconds: f64,
    wall_seconds: f64,
}

/// The prost codec with buffers for messages of up to about 1 MiB.
#[derive(Debug)]
struct BlobCodec<T, U>(ProstCodec<T, U>);

fn settings() -> BufferSettings {
    BufferSettings::new(64 * 1024, 64 * 1024)
}

impl<T: prost::Message + 'static, U: prost::Message + Default + 'static> Codec for BlobCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;
    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(settings())
    }
    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}

type BatchStream = Pin<Box<dyn futures::Stream<Item = Result<Batches, Status>> + Send>>;

#[derive(Debug, Clone)]
struct Transfer {
    log: Bytes,
    message: usize,
}

impl tonic::server::NamedService for Transfer {
    const NAME: &'static str = "tidemark.bench.Transfer";
}

impl Transfer {
    fn push(&self, mut acks: Streaming<Ack>) -> BatchStream {
        // The bound is the credit: the pusher never has more messages out than that.
        let (out, messages) = mpsc::channel(CREDIT);
        let (log, size) = (self.log.clone(), self.message);
        tokio::spawn(async move {
            let credit = Arc::new(Semaphore::new(CREDIT));
            let granted = Arc::clone(&credit);
            let reader = tokio::spawn(async move {
                while let Some(Ok(ack)) = acks.next().await {
                    granted.add_permits(ack.messages as usize);
                }
                granted.close();
            });
            let (mut at, mut offset) = (0, 0);
            while let Ok(permit) = credit.acquire().await {
                permit.forget();
                if at + size > log.len() {
                    at = 0;
                }
                let blob = log.slice(at..at + size);
                let headers = headers_of(size, offset);
                at += size;
                offset += 1;
                if out.send(Ok(Batches { headers, blob })).await.is_err() {
                    break;
                }
            }
            reader.abort();
        });
        Box::pin(tokio_stream::wrappers::ReceiverStream::new(messages))
    }
}

/// One header per 16 KiB, a usual batch of a producer.
fn headers_of(size: usize, base_offset: i64) -> Vec<Header> {
    (0..size.div_ceil(16 * 1024))
        .map(|index| Header {
            partition: u32::try_from(index % 12).unwrap_or(0),
            base_offset,
            length: 16 * 1024,
        })
        .collect()
}

#[derive(Debug)]
struct Pull(Transfer);

impl tonic::server::StreamingService<Ack> for Pull {
    type Response = Batches;
    type ResponseStream = BatchStream;
    type Future = std::future::Ready<Result<Response<BatchStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Ack>>) -> Self::Future {
        std::future::ready(Ok(Response::new(self.0.push(request.into_inner()))))
    }
}

impl tower::Service<http::Request<Body>> for Transfer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let pull = Pull(self.clone());
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(BlobCodec(ProstCodec::default()))
                .apply_compression_config(
                    EnabledCompressionEncodings::default(),
                    EnabledCompressionEncodings::default(),
                );
            Ok(grpc.streaming(pull, request).await)
        })
    }
}

/// Pulls from one leader into a fake log until the time is over; gives the bytes.
async fn follow(leader: SocketAddr, args: Args, start: Instant) -> anyhow::Result<u64> {
    let endpoint = Endpoint::from_shared(format!("http://{leader}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(args.window_kib * 1024)
        .initial_connection_window_size(args.window_kib * 1024)
        .max_frame_size((args.frame_kib * 1024).min((1 << 24) - 1));
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(error) if start.elapsed() > Duration::from_secs(5) => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(8 << 20);
    grpc.ready().await?;
    // One ack per message, at most CREDIT messages are in flight.
    let (acks, requests) = mpsc::channel(CREDIT);
    let request = Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
    let codec = BlobCodec::<Ack, Batches>(ProstCodec::default());
    let path = http::uri::PathAndQuery::from_static(PATH);
    let mut messages = grpc.streaming(request, path, codec).await?.into_inner();
    let (mut log, mut at, mut received) = (vec![0_u8; 16 << 20], 0, 0_u64);
    let end = Duration::from_secs_f64(args.seconds);
    let begin = Instant::now();
    while begin.elapsed() < end {
        let batches = messages
            .message()
            .await?
            .context("the leader ended the stream")?;
        let covered: u64 = batches.headers.iter().map(|h| u64::from(h.length)).sum();
        anyhow::ensure!(
            covered >= batches.blob.len() as u64,
            "headers miss bytes of the blob"
        );
        if at + batches.blob.len() > log.len() {
            at = 0;
        }
        log[at..at + batches.blob.len()].copy_from_slice(&batches.blob);
        at += batches.blob.len();
        received += batches.blob.len() as u64;
        acks.send(Ack { messages: 1 }).await?;
    }
    Ok(received)
}

/// User and system CPU of this process, all threads, in seconds (`/proc`, 100 ticks a second).
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat
        .rsplit(')')
        .next()
        .context("no command in /proc/self/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

async fn node(args: Args, node: usize) -> anyhow::Result<()> {
    let transfer = Transfer {
        log: Bytes::from(vec![0xa5; 16 << 20]),
        message: args.message_kib * 1024,
    };
    let server = Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(args.window_kib * 1024)
        .initial_connection_window_size(args.window_kib * 1024)
        .serve(args.peers[node], transfer);
    let server = tokio::spawn(server);
    let (start, before) = (Instant::now(), cpu_seconds()?);
    let followers: Vec<_> = (0..args.peers.len())
        .filter(|peer| *peer != node)
        .map(|peer| tokio::spawn(follow(args.peers[peer], args.clone(), start)))
        .collect();
    let mut received_bytes = 0;
    for follower in followers {
        received_bytes += follower.await??;
    }
    let figures = Figures {
        received_bytes,
        cpu_seconds: cpu_seconds()? - before,
        wall_seconds: start.elapsed().as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&figures)?);
    // The others may still pull from here for a moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.abort();
    Ok(())
}

/// Starts the three processes once; gives MB/s, CPU seconds per GB.
fn run_once(args: &Args) -> anyhow::Result<(f64, f64)> {
    let reserved: Vec<_> = (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let peers: Vec<String> = reserved
        .iter()
        .map(|listener| Ok(listener.local_addr()?.to_string()))
        .collect::<anyhow::Result<_>>()?;
    drop(reserved);
    let children: Vec<_> = (0..3)
        .map(|node| {
            Command::new(std::env::current_exe()?)
                .args(["--node", &node.to_string(), "--peers", &peers.join(",")])
                .args(["--seconds", &args.seconds.to_string()])
                .args(["--message-kib", &args.message_kib.to_string()])
                .args(["--window-kib", &args.window_kib.to_string()])
                .args(["--frame-kib", &args.frame_kib.to_string()])
                .args(["--threads", &args.threads.to_string()])
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<Result<_, _>>()?;
    let (mut bytes, mut cpu, mut wall) = (0, 0.0, 0.0_f64);
    for child in children {
        let output = child.wait_with_output()?;
        let figures: Figures = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("a node ended with {}", output.status))?;
        bytes += figures.received_bytes;
        cpu += figures.cpu_seconds;
        wall = wall.max(figures.wall_seconds);
    }
    Ok((bytes as f64 / 1e6 / wall, cpu / (bytes as f64 / 1e9)))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(index) = args.node {
        return tokio::runtime::Builder::new_multi_thread()
            .worker_threads(args.threads)
            .enable_all()
            .build()?
            .block_on(node(args, index));
    }
    for _ in 0..args.runs {
        let (rate, cost) = run_once(&args)?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        println!(
            "{} KiB messages, {} KiB window, {} KiB frames: {rate:.0} MB/s aggregate, {cost:.2} CPU-s/GB (both ends), load {}",
            args.message_kib,
            args.window_kib,
            args.frame_kib,
            load.trim()
        );
    }
    Ok(())
}
