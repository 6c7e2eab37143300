//! What does the coordinator know about one member of a group?

use bytes::Bytes;

use super::Now;
use super::record::MemberMetadata;
use super::request::{JoinRequest, Token};

/// How long a new member may wait for its first generation before it is given up, as in Kafka: its client may be gone
/// without a trace, since it does not heartbeat while it waits.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// A member of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) awaiting_join: Option<Token>,
    pub(super) awaiting_sync: Option<Token>,
    /// Monotonic ms at which the session ends unless the member is heard of.
    pub(super) session_deadline_ms: i64,
    /// Has not been part of a generation yet.
    pub(super) is_new: bool,
}

impl Member {
    pub(super) fn joining(now: Now, id: String, token: Token, request: &JoinRequest) -> Self {
        Self {
            id,
            instance_id: request.group_instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            session_deadline_ms: now.monotonic_ms + NEW_MEMBER_JOIN_TIMEOUT_MS,
            is_new: true,
        }
    }

    /// The member as a loaded record describes it; its session starts now.
    pub(super) fn loaded(now: Now, protocol: Option<&str>, metadata: MemberMetadata) -> Self {
        let mut member = Self {
            id: metadata.member_id,
            instance_id: metadata.group_instance_id,
            client_id: metadata.client_id,
            client_host: metadata.client_host,
            session_timeout_ms: metadata.session_timeout_ms,
            rebalance_timeout_ms: metadata.rebalance_timeout_ms,
            protocols: vec![(
                protocol.unwrap_or_default().to_owned(),
                metadata.subscription,
            )],
            assignment: metadata.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            session_deadline_ms: 0,
            is_new: false,
        };
        member.heard(now);
        member
    }

    /// The session starts anew.
    pub(super) fn heard(&mut self, now: Now) {
        self.session_deadline_ms = now.monotonic_ms + i64::from(self.session_timeout_ms);
    }

    /// When the session ends; `None` while the coordinator itself keeps the member waiting.
    pub(super) fn expires_at(&self) -> Option<i64> {
        let kept_waiting =
            !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some());
        (!kept_waiting).then_some(self.session_deadline_ms)
    }

    /// The member's metadata for `protocol`.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }
}
