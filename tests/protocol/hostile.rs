//! Does a broker survive frames that no honest client sends, without growing and without hurting other connections?

use tests::cluster::Cluster;
use types::batch::{CRC_START, set_producer};
use types::builder::BatchBuilder;
use types::{Compression, ErrorCode, ProducerEpoch, ProducerId};
use wire::ApiKey;

use tests::raw::Raw;

use crate::frames;

/// How many mutated frames are sent; `TIDEMARK_FRAMES` asks for more.
fn frames_to_send() -> u32 {
    std::env::var("TIDEMARK_FRAMES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000)
}

/// A small generator, so that the seed in a failure replays it.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn rss_kib(pid: u32) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the broker still runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

struct Victim {
    cluster: Cluster,
    address: String,
    pid: u32,
    bystander: Raw,
    rss_before: u64,
}

impl Victim {
    fn new() -> Self {
        let cluster = Cluster::up("examples/single-node");
        let address = cluster.bootstrap();
        let pid = cluster.pods()[0].pid.expect("it runs");
        let mut victim = Self {
            bystander: Raw::connect(&address),
            cluster,
            address,
            pid,
            rss_before: 0,
        };
        victim.ask_bystander();
        victim.rss_before = rss_kib(pid);
        victim
    }

    /// A connection that behaves goes on being served.
    fn ask_bystander(&mut self) {
        self.bystander
            .send(&frames::with_header(ApiKey::ApiVersions, 0, b""))
            .unwrap();
        let frame = self
            .bystander
            .receive()
            .expect("another connection is unharmed");
        assert_eq!(frame[..6], [0, 0, 0, 9, 0, 0]);
    }

    fn assert_unharmed(&mut self) {
        self.ask_bystander();
        let rss = rss_kib(self.pid);
        assert!(
            rss < 2 * self.rss_before.max(40 * 1024),
            "RSS grew from {} KiB to {rss} KiB",
            self.rss_before
        );
        assert_eq!(
            self.cluster.pods()[0].pid,
            Some(self.pid),
            "the broker was restarted"
        );
    }
}

#[test]
fn array_counts_that_claim_two_billion_elements_are_refused_in_every_api() {
    let mut victim = Victim::new();
    for frame in frames::all() {
        // The body begins somewhere after the header's 8 fixed bytes, the client id and its length.
        for at in 8..frame.len().min(64) {
            let mut bytes = frame.clone();
            for (place, byte) in [0x7f, 0xff, 0xff, 0xff, 0x0f].iter().enumerate() {
                if let Some(slot) = bytes.get_mut(at + place) {
                    *slot = *byte;
                }
            }
            let mut raw = Raw::connect(&victim.address);
            raw.send(&bytes).unwrap();
        }
        victim.ask_bystander();
    }
    victim.assert_unharmed();
}

#[test]
fn oversize_half_and_garbage_frames_close_their_own_connection_only() {
    let mut victim = Victim::new();
    for length in [0x7fff_ffff_u32, 0xffff_ffff, 0x8000_0000, 104_857_601] {
        let mut raw = Raw::connect(&victim.address);
        raw.send_bytes(&length.to_be_bytes()).unwrap();
        assert!(
            raw.is_closed(),
            "a frame of {length:#x} bytes is refused before it is read"
        );
    }
    let mut garbage = Raw::connect(&victim.address);
    garbage
        .send(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
        .unwrap();
    assert!(garbage.is_closed());
    let mut halves = Vec::new();
    for _ in 0..200 {
        let mut raw = Raw::connect(&victim.address);
        raw.send_bytes(&100_u32.to_be_bytes()).unwrap();
        raw.send_bytes(b"half").unwrap();
        halves.push(raw);
    }
    victim.assert_unharmed();
}

/// One batch of topic `scratch` with a right checksum over what claims to be zstd; the answer's error code.
fn produce_unreadable(raw: &mut Raw) -> i16 {
    let mut builder = BatchBuilder::new();
    builder.push(1_000, Some(b"key"), Some(&[7; 200]));
    let mut batch = builder.build().expect("one small record").to_vec();
    let attributes = Compression::Zstd.attributes().to_be_bytes();
    batch[CRC_START..CRC_START + 2].copy_from_slice(&attributes);
    // Nobody's batch, as it was; the checksum is made anew.
    set_producer(&mut batch, ProducerId(-1), ProducerEpoch(-1), -1);
    raw.produce(("scratch", 0), -1, batch.into()).error_code
}

#[test]
fn records_that_nobody_can_read_are_refused() {
    let mut victim = Victim::new();
    let mut raw = Raw::connect(&victim.address);
    let refused = ErrorCode::InvalidRecord.code();
    assert_eq!(produce_unreadable(&mut raw), refused);
    assert_eq!(produce_unreadable(&mut raw), refused, "it still serves");
    victim.assert_unharmed();
}

#[test]
fn mutated_frames_end_no_broker_and_no_other_connection() {
    const SEED: u64 = 0x7469_6465_6d61_726b;
    let mut victim = Victim::new();
    let originals = frames::all();
    let mut random = Xorshift(SEED);
    let mut raw = Raw::connect(&victim.address);
    for sent in 0..frames_to_send() {
        let mut frame = originals[random.below(originals.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(frame.len());
            match random.below(4) {
                0 => frame[at] = u8::try_from(random.below(256)).unwrap(),
                1 => frame[at] ^= 1 << random.below(8),
                2 => frame.truncate(at.max(1)),
                _ => frame.insert(at, 0xff),
            }
        }
        // The broker may have closed the connection after the last frame: a new one goes on.
        if raw.send(&frame).is_err() || sent % 16 == 0 {
            raw = Raw::connect(&victim.address);
        }
        if sent % 1_000 == 0 {
            victim.ask_bystander();
        }
    }
    victim.assert_unharmed();
}
