//! What may be asked of a consumer group that has to be written before it is answered, and how is that refused?

use types::ErrorCode;

use super::reconcile::confirms;
use super::request::{HeartbeatAnswer, Rejection, ValidHeartbeat};
use super::state::State;
use crate::group::request::{JoinReply, JoinRequest, Reply};

/// What a member asks.
#[derive(Debug)]
pub(in crate::group) enum Request {
    /// One of the consumer protocol.
    Heartbeat(ValidHeartbeat),
    /// One of the classic protocol.
    Join(JoinRequest),
}

/// What it is answered once that is in the log.
#[derive(Debug)]
pub(super) enum Answer {
    Heartbeat(HeartbeatAnswer),
    Join(JoinReply),
}

impl Request {
    /// Who asks; empty for one that has no id yet.
    pub(super) fn member_id(&self) -> &str {
        match self {
            Self::Heartbeat(heartbeat) => &heartbeat.request.member_id,
            Self::Join(request) => &request.member_id,
        }
    }

    /// Whether the member may just have given back what it was told to. What a join says of it is only read in its turn.
    pub(super) fn may_confirm(&self, state: &State) -> bool {
        match self {
            Self::Heartbeat(heartbeat) => {
                let member = state.member(&heartbeat.request.member_id);
                member.is_some_and(|member| confirms(&heartbeat.request, &member.current))
            }
            Self::Join(_) => true,
        }
    }

    pub(super) fn refused(&self, error: ErrorCode, message: &str) -> Reply {
        match self {
            Self::Heartbeat(_) => Reply::ConsumerHeartbeat(Err(Rejection::new(error, message))),
            Self::Join(request) => Reply::Join(JoinReply::error(error, &*request.member_id)),
        }
    }
}

impl Answer {
    pub(super) fn member_id(&self) -> &str {
        match self {
            Self::Heartbeat(answer) => &answer.member_id,
            Self::Join(reply) => &reply.member_id,
        }
    }

    pub(super) fn into_reply(self) -> Reply {
        match self {
            Self::Heartbeat(answer) => Reply::ConsumerHeartbeat(Ok(answer)),
            Self::Join(reply) => Reply::Join(reply),
        }
    }

    pub(super) fn refused(self, error: ErrorCode, message: &str) -> Reply {
        match self {
            Self::Heartbeat(_) => Reply::ConsumerHeartbeat(Err(Rejection::new(error, message))),
            Self::Join(reply) => Reply::Join(JoinReply::error(error, reply.member_id)),
        }
    }
}
