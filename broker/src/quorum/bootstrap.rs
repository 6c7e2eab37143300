//! How does a quorum begin, and how does a disk without entries become part of one?
//!
//! A controller whose disk holds no entries says hello to every configured controller until it is a voter.
//!
//! - If one of them belongs to a quorum (or heard of one), this disk never founds another: it waits to be taken
//!   in. The leader, told by the hello, adds it as a learner and, once it has caught up, replaces the node's
//!   former disk by it in one joint change.
//! - If every configured controller answered and none has entries, the one with the lowest node id founds the
//!   quorum with exactly the disks that answered. Nobody else ever does, so two quorums cannot be founded.
//!
//! A disk that only voted but has no entries counts as without: nothing was ever committed on a majority of such.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use rpc::quorum::v1 as wire;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::directory::ControllerNode;
use super::runtime::Shared;
use super::types::Member;
use super::{PROTOCOL_VERSION, codec, transport};

const HELLO_TIMEOUT: Duration = Duration::from_millis(300);
/// Pause between rounds of hellos: short, since the first start of a cluster waits for the last node to answer.
const ROUND_INTERVAL: Duration = Duration::from_millis(40);
/// Pause once a quorum is known: the leader takes its time for the change of members.
const JOIN_INTERVAL: Duration = Duration::from_millis(250);
/// A learner that has not caught up by then is tried again at its next hello.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);

impl Shared {
    /// Whether this disk holds entries: it belongs to a quorum.
    pub(crate) fn is_initialized(&self) -> bool {
        self.log.has_entries()
    }

    fn hello_request(&self) -> wire::HelloRequest {
        wire::HelloRequest {
            version: PROTOCOL_VERSION,
            cluster_id: self.config.cluster_id.clone(),
            sender: Some(codec::member_to_wire(&self.me)),
            sender_initialized: self.is_initialized(),
        }
    }

    pub(crate) fn hello_response(&self) -> wire::HelloResponse {
        let initialized = self.is_initialized();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let leader = metrics
            .current_leader
            .and_then(|id| membership.get_node(&id));
        wire::HelloResponse {
            version: PROTOCOL_VERSION,
            cluster_id: self.config.cluster_id.clone(),
            responder: Some(codec::member_to_wire(&self.me)),
            initialized,
            cluster_exists: initialized || self.signals.cluster_exists(),
            leader: leader.map(codec::member_to_wire),
        }
    }

    fn is_voter(&self, raft_id: u64) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        membership.voter_ids().any(|id| id == raft_id)
    }

    /// A controller said hello; if it has no vote yet, the leader considers giving it one.
    pub(crate) fn offer_member(&self, member: Member) {
        if !self.is_voter(member.raft_id()) {
            // A full queue means that the change is under way; the next hello offers again.
            let _ = self.offers.try_send(member);
        }
    }
}

/// Says hello until this disk has a vote. Returns at once for a disk that has one.
pub(crate) async fn join(shared: Arc<Shared>, stop: CancellationToken) {
    let own_id = shared.config.node_id;
    while !shared.is_voter(shared.me.raft_id()) && !stop.is_cancelled() {
        let others = shared
            .directory
            .controllers()
            .values()
            .filter(|controller| controller.node_id != own_id);
        let greetings = others.map(|controller| greet(&shared, controller));
        let answers = futures::future::join_all(greetings).await;
        let everyone_answered = answers.iter().all(Option::is_some);
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        if shared.is_initialized() || answers.iter().any(|answer| answer.cluster_exists) {
            shared.signals.note_cluster_exists();
        }
        if shared.signals.cluster_exists() {
            pause(&stop, JOIN_INTERVAL).await;
            continue;
        }
        let lowest = shared.directory.controllers().keys().next() == Some(&own_id);
        if everyone_answered && lowest {
            found(&shared, answers).await;
        }
        pause(&stop, ROUND_INTERVAL).await;
    }
}

async fn pause(stop: &CancellationToken, duration: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(duration) => {}
    }
}

async fn greet(shared: &Shared, controller: &ControllerNode) -> Option<wire::HelloResponse> {
    let mut client = transport::client(shared.directory.controller_channel(controller));
    let call = client.hello(shared.hello_request());
    match tokio::time::timeout(HELLO_TIMEOUT, call).await {
        Ok(Ok(response)) => Some(response.into_inner()),
        Ok(Err(status)) => {
            if status.code() == tonic::Code::FailedPrecondition {
                tracing::warn!(node = %controller.node_id, %status, "a controller refuses this one");
            }
            None
        }
        Err(_elapsed) => None,
    }
}

async fn found(shared: &Shared, answers: Vec<wire::HelloResponse>) {
    let mut members = BTreeMap::from([(shared.me.raft_id(), shared.me.clone())]);
    let mut nodes = BTreeSet::from([shared.me.node_id]);
    for answer in answers {
        let member = answer
            .responder
            .ok_or(codec::CodecError::Missing("responder"))
            .and_then(codec::member_from_wire);
        match member {
            Ok(member) => {
                nodes.insert(member.node_id);
                members.insert(member.raft_id(), member);
            }
            Err(error) => {
                tracing::warn!(%error, "a controller's hello makes no sense");
                return;
            }
        }
    }
    let configured: BTreeSet<_> = shared.directory.controllers().keys().copied().collect();
    if nodes != configured || members.len() != configured.len() {
        tracing::warn!(
            ?nodes,
            ?configured,
            "the controllers that answered are not the configured ones"
        );
        return;
    }
    tracing::info!(controllers = ?nodes, "founding the metadata quorum");
    if let Err(error) = shared.raft.initialize(members).await {
        tracing::warn!(%error, "failed to found the metadata quorum");
    }
}

/// On the leader: takes in the disks that said hello, one after the other.
pub(crate) async fn take_in(
    shared: Arc<Shared>,
    mut offers: mpsc::Receiver<Member>,
    stop: CancellationToken,
) {
    loop {
        let member = tokio::select! {
            () = stop.cancelled() => return,
            member = offers.recv() => member,
        };
        let Some(member) = member else {
            return;
        };
        let leads = shared.raft.metrics().borrow().state.is_leader();
        if !leads || shared.is_voter(member.raft_id()) {
            continue;
        }
        if !shared.directory.controllers().contains_key(&member.node_id) {
            tracing::warn!(%member, "a node that is not a configured controller wants a vote");
            continue;
        }
        tracing::info!(%member, "taking a new disk into the quorum");
        let work = tokio::time::timeout(CATCH_UP_TIMEOUT, replace(&shared, &member));
        match work.await {
            Ok(Ok(())) => tracing::info!(%member, "the new disk has a vote"),
            Ok(Err(error)) => tracing::warn!(%member, error, "failed to take in a new disk"),
            Err(_elapsed) => tracing::warn!(%member, "the new disk did not catch up in time"),
        }
    }
}

async fn replace(shared: &Shared, member: &Member) -> Result<(), String> {
    let id = member.raft_id();
    shared
        .raft
        .add_learner(id, member.clone(), true)
        .await
        .map_err(|error| error.to_string())?;
    let metrics = shared.raft.metrics().borrow().clone();
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership
        .voter_ids()
        .filter(|voter| {
            membership
                .get_node(voter)
                .is_none_or(|other| other.node_id != member.node_id)
        })
        .chain([id])
        .collect();
    shared
        .raft
        .change_membership(ChangeMembers::ReplaceAllVoters(voters), false)
        .await
        .map_err(|error| error.to_string())?;
    Ok(())
}
