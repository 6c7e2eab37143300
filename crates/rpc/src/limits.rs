//! How large may a gRPC message and its windows be between two brokers?

/// Largest message that clients and servers decode. A replication message holds at most one coalesced blob
/// (1 MiB) or one batch of `message.max.bytes`; a snapshot part 1 MiB. tonic's own 4 MiB would refuse a
/// batch that an operator allowed, so the bound is the largest `message.max.bytes` accepted plus headers.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// HTTP/2 window of one stream: two coalesced messages in flight, enough at a cluster's round trip.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// HTTP/2 window of one connection: a live and a catch-up stream at full window.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// HTTP/2 frame size: fewer, larger frames cost less CPU per byte than the default 16 KiB.
pub const FRAME_BYTES: u32 = 256 * 1024;

/// Bytes of one part of a metadata snapshot.
pub const SNAPSHOT_PART_BYTES: usize = 1024 * 1024;
