//! Who is in a group of the consumer protocol (KIP-848), and which partitions may each member consume?
//!
//! Members only send heartbeats. Whenever what the group wants changes, or the topics do, the group gets a new epoch and a
//! target assignment for it, computed here; each member is led to its target on its own, giving up before others take.
//!
//! ```text
//!   heartbeat --> identify --> describe --> advance (epoch) --> target --> reconcile --> records --> log --> answer
//!     leave, session or revocation over --> remove (epoch) -----------------------------'
//! ```
//! # Guarantees
//! - A. No partition belongs to two members at once: not by the records, and not in what members were told.
//! - B. What a member is told is in the log, below the high watermark.
//! - C. The state is what the records in the log amount to.
//! - D. While all members come back with heartbeats and nothing else changes, all reach the target.
//!
//! - E. Members of the classic protocol are in the group like all others ([`classic`]): A to C hold for them, and D while
//!   they do what clients of that protocol do.

pub mod request;

pub mod partitions;
pub mod record;
mod state;

mod change;
mod deadlines;
mod group;

mod classic;
mod downgrade;
mod queue;

mod heartbeat;
mod identify;
mod leave;
mod pattern;
mod reconcile;
mod subscription;
mod validate;

pub mod assignor;
mod target;
pub mod topics;

#[cfg(test)]
mod tests;

pub(super) use classic::with_ids;
pub(super) use downgrade::Downgrade;
pub(super) use group::{ConsumerGroup, Effects};
pub(super) use heartbeat::View;
pub(super) use queue::Request;
