//! What do brokers say to each other, and what does the operator ask them, over gRPC?
//!
//! `proto/` is the definition. `src/gen/` is generated from it and checked in, so that no protocol compiler is
//! in the build graph. After changing a `.proto` file run
//! `cargo run --manifest-path crates/rpc/codegen/Cargo.toml`; with `-- --check` the same command writes nothing
//! and fails when the generated code is not current.
//!
//! Fields of type `bytes` are [`bytes::Bytes`]: slices of the received message. A slice keeps its whole message
//! alive, so memory budgets count messages, not slices.

pub mod codec;
pub mod limits;

/// The metadata quorum: Raft between controllers, requests to the active controller, the metadata stream.
pub mod quorum {
    /// Version 1 of the protocol.
    pub mod v1 {
        #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications)]
        #![allow(clippy::all, clippy::use_self, clippy::large_futures)]
        include!("gen/tidemark.quorum.v1.rs");
    }
}

/// Replication of partitions from leaders to followers.
pub mod replication {
    /// Version 1 of the protocol.
    pub mod v1 {
        #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications)]
        #![allow(clippy::all, clippy::use_self, clippy::large_futures)]
        include!("gen/tidemark.replication.v1.rs");
    }
}

/// The safety API that the operator drives restarts through.
pub mod admin {
    /// Version 1 of the protocol.
    pub mod v1 {
        #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications)]
        #![allow(clippy::all, clippy::use_self, clippy::large_futures)]
        include!("gen/tidemark.admin.v1.rs");
    }
}

/// Markers and partitions of transactions, between coordinators and leaders.
pub mod transaction {
    /// Version 1 of the protocol.
    pub mod v1 {
        #![allow(missing_debug_implementations, unreachable_pub, unused_qualifications)]
        #![allow(clippy::all, clippy::use_self, clippy::large_futures)]
        include!("gen/tidemark.transaction.v1.rs");
    }
}
