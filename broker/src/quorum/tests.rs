//! Do three controllers over real sockets and disks agree, survive, and refuse what they must refuse?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::types::NodeId;
use bytes::Bytes;
use parking_lot::Mutex;
use rpc::quorum::v1 as wire;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;
use crate::names::Resolver;
use crate::peer::Peers;

/// Generous for a busy machine; every wait ends with its condition long before.
const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: &str = "test-cluster";

/// A machine that remembers every batch it applied.
#[derive(Debug, Clone, Default)]
struct Journal(Arc<Mutex<BTreeMap<u64, String>>>);

fn text_of(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn batches_of(text: &str) -> BTreeMap<u64, String> {
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(offset, text)| (offset.parse().unwrap(), text.to_owned()))
        .collect()
}

impl Machine for Journal {
    fn apply(&mut self, offset: u64, records: &Bytes) -> Result<(), MachineError> {
        let text = text_of(records);
        assert!(
            self.0.lock().insert(offset, text).is_none(),
            "offset {offset} was applied twice"
        );
        Ok(())
    }

    fn freeze(&self) -> Freeze {
        let batches = self.0.lock().clone();
        Box::new(move || {
            let lines: Vec<_> = batches.iter().map(|(o, t)| format!("{o} {t}")).collect();
            lines.join("\n").into()
        })
    }

    fn restore(&mut self, _offset: u64, image: &Bytes) -> Result<(), MachineError> {
        *self.0.lock() = batches_of(&text_of(image));
        Ok(())
    }
}

struct Node {
    quorum: QuorumRuntime,
    journal: Journal,
    /// Its end closes every connection, as the death of a process does.
    runtime: tokio::runtime::Runtime,
}

struct Cluster {
    folder: tempfile::TempDir,
    ports: BTreeMap<i32, SocketAddr>,
    nodes: BTreeMap<i32, Node>,
    timing: Timing,
}

impl Cluster {
    async fn new(count: i32, timing: Timing) -> Self {
        let mut ports = BTreeMap::new();
        let mut held = Vec::new();
        for id in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ports.insert(id, listener.local_addr().unwrap());
            held.push(listener);
        }
        drop(held);
        Self {
            folder: tempfile::tempdir().unwrap(),
            ports,
            nodes: BTreeMap::new(),
            timing,
        }
    }

    async fn started(count: i32) -> Self {
        let mut cluster = Self::new(count, Timing::default()).await;
        for id in 0..count {
            cluster.start(id).await;
        }
        cluster
    }

    fn metadata(&self, id: i32) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    fn directory(&self) -> Directory {
        let controllers = self.ports.iter().map(|(id, address)| ControllerNode {
            node_id: NodeId(*id),
            host: "127.0.0.1".to_owned(),
            rpc_port: address.port(),
        });
        Directory::new(controllers, Peers::new(Resolver::default()))
    }

    async fn start(&mut self, id: i32) {
        let address = self.ports[&id];
        let journal = Journal::default();
        let config = QuorumConfig {
            cluster_id: CLUSTER.to_owned(),
            node_id: NodeId(id),
            host: "127.0.0.1".to_owned(),
            rpc_port: address.port(),
            metadata: self.metadata(id),
            timing: self.timing.clone(),
        };
        let machine = Box::new(journal.clone());
        let directory = self.directory();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.spawn(async move {
            let listener = TcpListener::bind(address).await.unwrap();
            let quorum = QuorumRuntime::start(config, directory, machine)
                .await
                .unwrap();
            let service = quorum.service().into_server();
            let incoming = TcpListenerStream::new(listener);
            let router = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(router.serve_with_incoming(incoming));
            quorum
        });
        let node = Node {
            quorum: started.await.unwrap(),
            journal,
            runtime,
        };
        self.nodes.insert(id, node);
    }

    /// As the death of the process: nothing is handed over.
    async fn kill(&mut self, id: i32) {
        let node = self.nodes.remove(&id).unwrap();
        node.quorum.abandon().await;
        end(node).await;
    }

    async fn stop(&mut self, id: i32) {
        let node = self.nodes.remove(&id).unwrap();
        node.quorum.stop().await;
        end(node).await;
    }

    fn wipe(&self, id: i32) {
        std::fs::remove_dir_all(self.metadata(id)).unwrap();
    }

    /// The node that leads, once exactly one of the running nodes does.
    async fn leader(&self) -> (i32, u64) {
        let found = await_some(|| {
            let leading: Vec<_> = self
                .nodes
                .iter()
                .filter_map(|(id, node)| {
                    let status = node.quorum.status();
                    let status = status.borrow();
                    status.leading.map(|term| (*id, term))
                })
                .collect();
            // While a deposed leader has not noticed, two act; their terms differ and the newer one wins.
            leading.into_iter().max_by_key(|(_, term)| *term)
        });
        found.await.expect("a leader")
    }

    async fn propose(&self, text: &str) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (id, term) = self.leader().await;
            match self.nodes[&id]
                .quorum
                .propose(term, text.to_owned().into())
                .await
            {
                Ok(offset) => return offset,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    async fn has_everywhere(&self, text: &str) {
        let everywhere = await_some(|| {
            let has = |node: &Node| node.journal.0.lock().values().any(|known| known == text);
            self.nodes.values().all(has).then_some(())
        });
        everywhere.await.unwrap_or_else(|| {
            let status = |node: &Node| node.quorum.status().borrow().clone();
            let all: Vec<_> = self.nodes.values().map(status).collect();
            panic!("{text:?} is not everywhere: {all:#?}")
        });
    }

    fn journals_agree(&self) {
        let mut all: BTreeMap<u64, String> = BTreeMap::new();
        for (id, node) in &self.nodes {
            for (offset, text) in node.journal.0.lock().iter() {
                let known = all.entry(*offset).or_insert_with(|| text.clone());
                assert_eq!(known, text, "offset {offset} of node {id}");
            }
        }
    }
}

async fn end(node: Node) {
    let ended = move || node.runtime.shutdown_timeout(PATIENCE);
    tokio::task::spawn_blocking(ended).await.unwrap();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in std::mem::take(&mut self.nodes).into_values() {
            node.runtime.shutdown_background();
        }
    }
}

/// Polls a condition that no channel announces (it spans several nodes).
async fn await_some<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut timer = tokio::time::interval(Duration::from_millis(5));
    while Instant::now() < deadline {
        if let Some(found) = condition() {
            return Some(found);
        }
        timer.tick().await;
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_controller_founds_its_quorum_and_commits() {
    let mut cluster = Cluster::started(1).await;
    cluster.propose("one").await;
    cluster.kill(0).await;
    cluster.start(0).await;
    cluster.propose("two").await;
    cluster.has_everywhere("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_controllers_found_one_quorum_and_apply_in_one_order() {
    let cluster = Cluster::started(3).await;
    for round in 0..20 {
        cluster.propose(&format!("batch {round}")).await;
    }
    cluster.has_everywhere("batch 19").await;
    cluster.journals_agree();
    let journal = cluster.nodes[&0].journal.0.lock().clone();
    let texts: Vec<_> = journal.into_values().collect();
    let expected: Vec<_> = (0..20).map(|round| format!("batch {round}")).collect();
    assert_eq!(texts, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_survives_the_death_of_each_leader_in_turn() {
    let mut cluster = Cluster::started(3).await;
    let mut gaps = Vec::new();
    for round in 0..4 {
        let before = format!("before {round}");
        cluster.propose(&before).await;
        let (leader, term) = cluster.leader().await;
        let killed = Instant::now();
        cluster.kill(leader).await;
        cluster.propose(&format!("after {round}")).await;
        gaps.push(killed.elapsed());
        assert!(cluster.leader().await.1 > term);
        cluster.start(leader).await;
        cluster.has_everywhere(&before).await;
        cluster.has_everywhere(&format!("after {round}")).await;
    }
    cluster.journals_agree();
    println!("commits were possible again after {gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_restarts_from_its_disks() {
    let mut cluster = Cluster::started(3).await;
    cluster.propose("kept").await;
    for id in 0..3 {
        cluster.kill(id).await;
    }
    for id in 0..3 {
        cluster.start(id).await;
    }
    cluster.propose("new").await;
    cluster.has_everywhere("kept").await;
    cluster.has_everywhere("new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_without_a_majority() {
    let mut cluster = Cluster::started(3).await;
    cluster.propose("one").await;
    let (leader, term) = cluster.leader().await;
    let followers: Vec<_> = (0..3).filter(|id| *id != leader).collect();
    for id in &followers {
        cluster.kill(*id).await;
    }
    let quorum = cluster.nodes[&leader].quorum.clone();
    let proposal = tokio::spawn(async move { quorum.propose(term, "two".into()).await });
    // The leader notices by itself that nobody answers, and stops acting.
    let mut status = cluster.nodes[&leader].quorum.status();
    let fenced = status.wait_for(|status| status.leading.is_none());
    tokio::time::timeout(PATIENCE, fenced)
        .await
        .unwrap()
        .unwrap();
    assert!(!proposal.is_finished());
    assert!(
        !cluster.nodes[&leader]
            .journal
            .0
            .lock()
            .values()
            .any(|text| text == "two")
    );
    cluster.start(followers[0]).await;
    cluster.propose("three").await;
    proposal.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_hands_over_before_it_ends() {
    let mut cluster = Cluster::started(3).await;
    cluster.propose("one").await;
    let (leader, term) = cluster.leader().await;
    let quorum = cluster.nodes[&leader].quorum.clone();
    quorum.hand_over().await;
    let (successor, newer) = cluster.leader().await;
    assert_ne!(successor, leader);
    assert!(newer > term);
    cluster.stop(leader).await;
    cluster.propose("two").await;
    cluster.has_everywhere("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_comes_back_as_another_voter_and_never_votes_as_the_old_one() {
    let mut cluster = Cluster::started(3).await;
    cluster.propose("one").await;
    let (leader, _) = cluster.leader().await;
    // The node with the lowest id is the one that would found a quorum.
    let wiped = if leader == 0 { 1 } else { 0 };
    let old = cluster.nodes[&wiped].quorum.me().clone();
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    cluster.start(wiped).await;
    let new = cluster.nodes[&wiped].quorum.me().clone();
    assert_ne!(old.raft_id(), new.raft_id());
    let voters = |id: i32| cluster.nodes[&id].quorum.status().borrow().voters.clone();
    let replaced = await_some(|| {
        let voters = voters(leader);
        (voters.contains(&new) && !voters.contains(&old) && voters.len() == 3).then_some(())
    });
    replaced
        .await
        .expect("the new disk has the vote of the old");
    cluster.has_everywhere("one").await;

    let mut client = transport::client(cluster.directory().channel(&new));
    let vote = wire::Vote {
        term: 1000,
        raft_id: 1,
        committed: false,
    };
    let request = wire::VoteRequest {
        version: PROTOCOL_VERSION,
        cluster_id: CLUSTER.to_owned(),
        to_raft_id: old.raft_id(),
        vote: Some(vote),
        last_log_id: Some(wire::LogId {
            term: 1000,
            leader_raft_id: 1,
            index: 1_000_000,
        }),
    };
    let refused = client.request_vote(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");

    // The new voter counts: with one of the others down there is still a majority.
    let other = (0..3).find(|id| *id != wiped && *id != leader).unwrap();
    cluster.kill(other).await;
    cluster.propose("two").await;
    cluster.has_everywhere("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_founds_nothing_while_the_others_are_away() {
    let mut cluster = Cluster::started(3).await;
    cluster.propose("one").await;
    for id in 0..3 {
        cluster.kill(id).await;
    }
    cluster.wipe(0);
    cluster.start(0).await;
    cluster.start(1).await;
    // One member without entries and one with: half of the old quorum, and no ground for a new one.
    let heard = cluster.nodes[&0].quorum.clone();
    let knows = await_some(|| {
        heard
            .service()
            .shared
            .signals
            .cluster_exists()
            .then_some(())
    });
    knows.await.expect("the wiped disk hears of the quorum");
    assert!(!heard.service().shared.is_initialized());
    cluster.start(2).await;
    cluster.propose("two").await;
    cluster.has_everywhere("one").await;
    cluster.has_everywhere("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lags_far_behind_gets_a_snapshot() {
    let timing = Timing {
        snapshot_after: 50,
        ..Timing::default()
    };
    let mut cluster = Cluster::new(3, timing).await;
    for id in 0..3 {
        cluster.start(id).await;
    }
    cluster.propose("first").await;
    let (leader, _) = cluster.leader().await;
    let lagging = (0..3).find(|id| *id != leader).unwrap();
    cluster.has_everywhere("first").await;
    cluster.kill(lagging).await;
    for round in 0..200 {
        cluster.propose(&format!("batch {round}")).await;
    }
    cluster.start(lagging).await;
    cluster.has_everywhere("batch 0").await;
    cluster.has_everywhere("batch 199").await;
    cluster.journals_agree();
    assert_eq!(cluster.nodes[&lagging].journal.0.lock().len(), 201);
    let purged = |node: &Node| node.quorum.service().shared.raft.metrics().borrow().purged;
    assert!(purged(&cluster.nodes[&lagging]).is_some());

    // What a snapshot brought is there again after a restart.
    cluster.kill(lagging).await;
    cluster.start(lagging).await;
    cluster.has_everywhere("batch 0").await;
    cluster.has_everywhere("batch 199").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_leader_acts_only_after_it_applied_its_whole_log() {
    let timing = Timing {
        snapshot_after: 50,
        ..Timing::default()
    };
    let mut cluster = Cluster::new(1, timing).await;
    cluster.start(0).await;
    for count in 1..=80 {
        cluster.propose(&format!("batch {count}")).await;
    }
    for _ in 0..5 {
        cluster.kill(0).await;
        cluster.start(0).await;
        // It may lead on in its old term, with a snapshot of that term applied and the rest of the log not yet.
        let mut status = cluster.nodes[&0].quorum.status();
        let leading = status.wait_for(|status| status.leading.is_some());
        tokio::time::timeout(PATIENCE, leading)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(cluster.nodes[&0].journal.0.lock().len(), 80);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_of_an_older_term_is_void() {
    let mut cluster = Cluster::started(3).await;
    let (leader, term) = cluster.leader().await;
    cluster.kill(leader).await;
    let (next, newer) = cluster.leader().await;
    assert!(newer > term);
    let stale = cluster.nodes[&next]
        .quorum
        .propose(term, "stale".into())
        .await;
    assert_eq!(stale, Err(ProposeError::NotLeader { term }));
    cluster.propose("fresh").await;
    cluster.has_everywhere("fresh").await;
    let journal = cluster.nodes[&next].journal.0.lock().clone();
    assert!(!journal.values().any(|text| text == "stale"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_follower_does_not_depose_the_leader() {
    let cluster = Cluster::started(3).await;
    cluster.propose("one").await;
    let (leader, term) = cluster.leader().await;
    let follower = (0..3).find(|id| *id != leader).unwrap();
    let shared = cluster.nodes[&follower].quorum.service().shared.clone();
    // What a follower that was stalled would ask before it stands for election.
    let asker = shared.me.raft_id();
    let last = shared.last_log_id();
    let others = (0..3).filter(|id| *id != follower);
    for id in others {
        let other = cluster.nodes[&id].quorum.service().shared;
        assert!(!other.would_vote(asker, last), "node {id}");
    }
    assert_eq!(cluster.leader().await, (leader, term));
}

/// How long a disk stalls that must not cost anybody the office: longer than any patience.
const STALL: Duration = Duration::from_millis(1200);

async fn stall(cluster: &Cluster, id: i32) -> std::sync::mpsc::SyncSender<()> {
    let shared = cluster.nodes[&id].quorum.service().shared;
    shared.log.stall().await
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_stall_for_a_second_cost_nobody_the_office() {
    let cluster = Cluster::started(3).await;
    cluster.propose("before").await;
    let (leader, term) = cluster.leader().await;
    let followers: Vec<i32> = (0..3).filter(|id| *id != leader).collect();
    let everybody: Vec<i32> = (0..3).collect();
    for stalled in [vec![leader], followers, everybody] {
        let mut ends = Vec::new();
        for id in &stalled {
            ends.push(stall(&cluster, *id).await);
        }
        let quorum = cluster.nodes[&leader].quorum.clone();
        let text = format!("while {stalled:?} stalled");
        let proposal = {
            let text = text.clone();
            tokio::spawn(async move { quorum.propose(term, text.into()).await })
        };
        tokio::time::sleep(STALL).await;
        let status = cluster.nodes[&leader].quorum.status().borrow().clone();
        assert_eq!(status.leading, Some(term), "{text}: {status:#?}");
        drop(ends);
        let committed = tokio::time::timeout(PATIENCE, proposal).await.unwrap();
        assert!(committed.unwrap().is_ok(), "{text}");
        cluster.has_everywhere(&text).await;
        assert_eq!(cluster.leader().await, (leader, term), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_never_answers_again_is_replaced() {
    let cluster = Cluster::started(3).await;
    cluster.propose("before").await;
    let (leader, term) = cluster.leader().await;
    let end = stall(&cluster, leader).await;
    let quorum = cluster.nodes[&leader].quorum.clone();
    let lost = tokio::spawn(async move { quorum.propose(term, "lost".into()).await });
    let replaced = await_some(|| {
        let mut others = cluster.nodes.iter().filter(|(id, _)| **id != leader);
        others.find_map(|(_, node)| node.quorum.status().borrow().leading)
    });
    assert!(replaced.await.expect("another leader") > term);
    drop(end);
    cluster.propose("after").await;
    cluster.has_everywhere("after").await;
    cluster.journals_agree();
    lost.abort();
}
