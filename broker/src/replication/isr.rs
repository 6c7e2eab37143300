//! How do leaders get their ISR changes committed by the controller?
//!
//! One task takes the proposals of all partitions, sends what has gathered as one request, and hands the answers
//! back. Proposals that find the queue full are sent again by the periodic check of their partition.

use std::sync::Arc;
use std::time::Duration;

use broker_core::partition::{AlterPartitionAnswer, AlterPartitionProposal};
use tokio::sync::{mpsc, watch};

use super::manager::ReplicaManager;
use super::model::TopicIdPartition;
use super::shared::stopped;

/// Proposals that may wait: one per partition of a large broker while the controller fails over.
pub(crate) const REQUESTS_QUEUED: usize = 8192;
/// Proposals sent in one request to the controller.
const BATCH: usize = 1024;
/// Pause after the controller could not be reached, so that a dead quorum is not hammered.
const PAUSE: Duration = Duration::from_millis(50);

/// An ISR change that a leader asks for.
#[derive(Debug, Clone)]
pub struct IsrRequest {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// What it asks for.
    pub proposal: AlterPartitionProposal,
}

/// The controller as leaders need it.
#[tonic::async_trait]
pub trait IsrController: std::fmt::Debug + Send + Sync + 'static {
    /// Asks for several changes at once; one answer each, in order. A controller that cannot be reached is
    /// [`AlterPartitionAnswer::Unknown`] for all.
    async fn alter_partitions(&self, requests: &[IsrRequest]) -> Vec<AlterPartitionAnswer>;
}

/// Sends proposals until the manager stops.
pub(crate) async fn run(
    manager: ReplicaManager,
    controller: Arc<dyn IsrController>,
    mut requests: mpsc::Receiver<IsrRequest>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            n = requests.recv_many(&mut batch, BATCH) => if n == 0 { return },
            () = stopped(&mut shutdown) => return,
        }
        let answers = controller.alter_partitions(&batch).await;
        let mut unreachable = false;
        for (index, request) in batch.drain(..).enumerate() {
            let answer = answers.get(index).unwrap_or(&AlterPartitionAnswer::Unknown);
            unreachable |= *answer == AlterPartitionAnswer::Unknown;
            tracing::debug!(partition = %request.partition, isr = ?request.proposal.isr, ?answer, "ISR change");
            let key = (request.partition.topic_id, request.partition.partition);
            if let Some(replica) = manager.replica(key) {
                replica.on_alter_partition_answer(&request.proposal, answer);
            }
        }
        if unreachable {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
