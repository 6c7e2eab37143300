//! How is a cluster administered: topics, configurations, groups, offsets?
//!
//! Calls about several things answer for each of them; the outer error is for "nobody answered". Calls are sent again
//! while they fail in a way that may pass (until `api_timeout`), so an answer lost on the way can turn a success into
//! `TOPIC_ALREADY_EXISTS` or `UNKNOWN_TOPIC_OR_PARTITION`, as with every Kafka client.

mod cluster;
mod configs;
mod groups;
mod offsets;
mod reassignments;
mod topics;

use types::ErrorCode;

use crate::client::Client;
use crate::error::{ClientError, error_code};

pub use cluster::{ClusterBroker, ClusterDescription};
pub use configs::{
    ConfigEntry, ConfigOp, ConfigResource, ConfigSource, ConfigSynonym, ResourceType,
};
pub(crate) use groups::partitions;
pub(crate) use offsets::{check_commit, commit_request, fetch_offsets, list_offset};

pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use offsets::{CommittedOffset, ListedOffset, OffsetSpec};
pub use reassignments::{Copies, Reassignment, Reassignments};
pub use topics::{CreatedTopic, NewTopic};

/// Administration of the cluster that a [`Client`] is connected to.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// Uses the client's connections and settings.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client below.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How long a broker may work on a request, in the protocol's int32 of milliseconds.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.options().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Fails the whole answer when its broker does not lead the controller quorum, so that it is asked for again.
fn refuse_not_controller(codes: impl Iterator<Item = i16>) -> Result<(), ClientError> {
    for code in codes {
        if error_code(code) == ErrorCode::NotController {
            return ClientError::check(code, None, || "ask the controller".to_owned());
        }
    }
    Ok(())
}
