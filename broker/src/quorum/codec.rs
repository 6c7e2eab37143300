//! How do Raft's types look on the wire and on the disk? (The same protobuf messages for both.)

use std::collections::{BTreeMap, BTreeSet};

use openraft::{CommittedLeaderId, EntryPayload, LeaderId};
use rpc::quorum::v1 as wire;
use types::NodeId;
use uuid::Uuid;

use super::types::{
    Entry, LogId, Member, Membership, Proposal, SnapshotMeta, StoredMembership, Vote,
};

/// A message of a peer, or bytes of a file, that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A field that every sender sets was absent.
    #[error("failed to read a quorum message: field {0} is missing")]
    Missing(&'static str),
    /// A field held a value out of its range.
    #[error("failed to read a quorum message: field {field} is {value}, want {want}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it held.
        value: String,
        /// What would be right.
        want: &'static str,
    },
}

pub(crate) fn log_id_to_wire(id: LogId) -> wire::LogId {
    wire::LogId {
        term: id.leader_id.term,
        leader_raft_id: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id_from_wire(id: wire::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, id.leader_raft_id), id.index)
}

pub(crate) fn vote_to_wire(vote: Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        raft_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_wire(vote: Option<wire::Vote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or(CodecError::Missing("vote"))?;
    Ok(Vote {
        leader_id: LeaderId::new(vote.term, vote.raft_id),
        committed: vote.committed,
    })
}

pub(crate) fn member_to_wire(member: &Member) -> wire::Member {
    wire::Member {
        raft_id: member.raft_id(),
        node_id: member.node_id.0,
        host: member.host.clone(),
        rpc_port: u32::from(member.rpc_port),
        disk_uuid: member.disk.as_bytes().to_vec().into(),
    }
}

pub(crate) fn member_from_wire(member: wire::Member) -> Result<Member, CodecError> {
    let invalid = |field, value: String, want| CodecError::Invalid { field, value, want };
    let disk = Uuid::from_slice(&member.disk_uuid).map_err(|_| {
        invalid(
            "disk_uuid",
            format!("{} bytes long", member.disk_uuid.len()),
            "16 bytes",
        )
    })?;
    let rpc_port = u16::try_from(member.rpc_port)
        .map_err(|_| invalid("rpc_port", member.rpc_port.to_string(), "a TCP port"))?;
    let decoded = Member {
        node_id: NodeId(member.node_id),
        host: member.host,
        rpc_port,
        disk,
    };
    if decoded.raft_id() != member.raft_id {
        let value = member.raft_id.to_string();
        return Err(invalid("raft_id", value, "the id derived from disk_uuid"));
    }
    Ok(decoded)
}

pub(crate) fn membership_to_wire(membership: &Membership) -> wire::Membership {
    wire::Membership {
        voter_sets: membership
            .get_joint_config()
            .iter()
            .map(|set| wire::VoterSet {
                raft_ids: set.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, member)| wire::Member {
                raft_id: *id,
                ..member_to_wire(member)
            })
            .collect(),
    }
}

pub(crate) fn membership_from_wire(membership: wire::Membership) -> Result<Membership, CodecError> {
    let sets: Vec<BTreeSet<u64>> = membership
        .voter_sets
        .into_iter()
        .map(|set| set.raft_ids.into_iter().collect())
        .collect();
    let members = membership
        .members
        .into_iter()
        .map(|member| {
            let id = member.raft_id;
            // A member whose place is not known has no disk that its id could be derived from.
            let is_known = member.disk_uuid.iter().any(|byte| *byte != 0);
            if is_known {
                member_from_wire(member).map(|member| (id, member))
            } else {
                Ok((id, Member::default()))
            }
        })
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(Membership::new(sets, members))
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> wire::StoredMembership {
    wire::StoredMembership {
        log_id: stored.log_id().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(
    stored: wire::StoredMembership,
) -> Result<StoredMembership, CodecError> {
    let membership = stored.membership.ok_or(CodecError::Missing("membership"))?;
    Ok(StoredMembership::new(
        stored.log_id.map(log_id_from_wire),
        membership_from_wire(membership)?,
    ))
}

pub(crate) fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let (proposal, membership) = match &entry.payload {
        EntryPayload::Blank => (None, None),
        EntryPayload::Normal(proposal) => (
            Some(wire::Proposal {
                decided_in_term: proposal.term,
                records: proposal.records.clone(),
            }),
            None,
        ),
        EntryPayload::Membership(membership) => (None, Some(membership_to_wire(membership))),
    };
    wire::Entry {
        log_id: Some(log_id_to_wire(entry.log_id)),
        proposal,
        membership,
    }
}

pub(crate) fn entry_from_wire(entry: wire::Entry) -> Result<Entry, CodecError> {
    let log_id = entry.log_id.ok_or(CodecError::Missing("log_id"))?;
    let payload = match (entry.proposal, entry.membership) {
        (None, None) => EntryPayload::Blank,
        (Some(proposal), None) => EntryPayload::Normal(Proposal {
            term: proposal.decided_in_term,
            records: proposal.records,
        }),
        (None, Some(membership)) => EntryPayload::Membership(membership_from_wire(membership)?),
        (Some(_), Some(_)) => {
            return Err(CodecError::Invalid {
                field: "proposal",
                value: "set together with membership".to_owned(),
                want: "one of the two",
            });
        }
    };
    Ok(Entry {
        log_id: log_id_from_wire(log_id),
        payload,
    })
}

pub(crate) fn snapshot_meta_to_wire(meta: &SnapshotMeta) -> wire::SnapshotMeta {
    wire::SnapshotMeta {
        last_log_id: meta.last_log_id.map(log_id_to_wire),
        last_membership: Some(stored_membership_to_wire(&meta.last_membership)),
        snapshot_id: meta.snapshot_id.clone(),
    }
}

pub(crate) fn snapshot_meta_from_wire(
    meta: wire::SnapshotMeta,
) -> Result<SnapshotMeta, CodecError> {
    let membership = meta
        .last_membership
        .ok_or(CodecError::Missing("last_membership"))?;
    Ok(SnapshotMeta {
        last_log_id: meta.last_log_id.map(log_id_from_wire),
        last_membership: stored_membership_from_wire(membership)?,
        snapshot_id: meta.snapshot_id,
    })
}
