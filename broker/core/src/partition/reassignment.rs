//! How does a partition get other replicas without ever having fewer (KIP-455)?
//!
//! ```text
//!               target        ISR has the whole target
//!   original ----------> both ------------------------> target
//!       ^                 |
//!       +---- given up ---+      a new target starts from the original replicas again
//! ```
//!
//! A. While it runs, `replicas` is the target and then what goes; what is added and what goes is told by two lists.
//! B. It is done once the ISR contains the whole target. What goes leaves the ISR in the same step, not before.
//! C. Giving up leads back to the original replicas. So does a new target, before it is headed for: what the first one
//!    added and the new one does not name goes at once.
//!
//! These steps leave leader and epochs as they are. Who takes one elects a leader from the ISR that is left, raises the
//! leader epoch if there are replicas that go, so that nobody listens to them any more, and refuses the step if it
//! leaves nobody of ISR and ELR: those who have every acknowledged record would all be gone.

use types::NodeId;

use super::PartitionRegistration;

impl PartitionRegistration {
    /// The first step towards the replicas `target`, a running reassignment being given up for it; the last step as
    /// well, if the target is in sync already.
    #[must_use]
    pub fn reassigned(&self, target: &[NodeId]) -> Self {
        let original: Vec<NodeId> = self.original_replicas().collect();
        let without = |nodes: &[NodeId], others: &[NodeId]| -> Vec<NodeId> {
            let nodes = nodes.iter().copied();
            nodes.filter(|node| !others.contains(node)).collect()
        };
        let removing = without(&original, target);
        let started = Self {
            replicas: target.iter().chain(&removing).copied().collect(),
            adding_replicas: without(target, &original),
            removing_replicas: removing,
            ..self.clone()
        };
        started.with_isr_of_replicas().completed()
    }

    /// As it is when the running reassignment is given up.
    #[must_use]
    pub fn reverted(&self) -> Self {
        let reverted = Self {
            replicas: self.original_replicas().collect(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            ..self.clone()
        };
        reverted.with_isr_of_replicas()
    }

    /// As it is when a running reassignment is done; unchanged while the ISR lacks some of the target.
    #[must_use]
    pub fn completed(self) -> Self {
        let is_done = self.target_replicas().all(|node| self.isr.contains(&node));
        if !self.is_reassigning() || !is_done {
            return self;
        }
        let completed = Self {
            replicas: self.target_replicas().collect(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            ..self
        };
        completed.with_isr_of_replicas()
    }

    /// Who goes leaves the ISR, and what there is of eligible replicas, too.
    fn with_isr_of_replicas(mut self) -> Self {
        let replicas = &self.replicas;
        for nodes in [&mut self.isr, &mut self.elr, &mut self.last_known_elr] {
            nodes.retain(|node| replicas.contains(node));
        }
        self
    }
}
