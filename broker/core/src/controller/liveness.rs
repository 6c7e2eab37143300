//! Which brokers' processes live, as far as the active controller has heard?
//!
//! Soft state: it is not in the image, is rebuilt at takeover, and only ever leads to records that fence or unfence.

use std::collections::{BTreeMap, BTreeSet};

use types::{BrokerEpoch, NodeId};

use crate::metadata::{BrokerUuid, Incarnation, MetadataImage};

/// An offset that is known once the proposal it stands for is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Milestone {
    Proposed(u64),
    At(u64),
}

impl Milestone {
    const fn is_reached_by(self, metadata_offset: u64) -> bool {
        match self {
            Self::Proposed(_) => false,
            Self::At(offset) => metadata_offset >= offset,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// No session stream was ever seen by this controller.
    Unknown,
    Open,
    /// It ended; the process may live behind a broken network.
    Closed,
    /// The process is gone.
    Gone,
}

#[derive(Debug, Clone)]
struct Contact {
    incarnation: Incarnation,
    broker_uuid: BrokerUuid,
    last_contact_ms: i64,
    metadata_offset: u64,
    link: Link,
    registered: Milestone,
    shutdown: Option<Milestone>,
}

/// What the active controller has heard of each registered broker.
#[derive(Debug, Clone)]
pub struct BrokerLiveness {
    session_timeout_ms: i64,
    contacts: BTreeMap<NodeId, Contact>,
}

impl BrokerLiveness {
    pub(super) fn take_over(session_timeout_ms: i64, image: &MetadataImage, now_ms: i64) -> Self {
        let contacts = image
            .brokers()
            .map(|broker| {
                let contact = Contact {
                    incarnation: broker.incarnation,
                    broker_uuid: broker.broker_uuid,
                    last_contact_ms: now_ms,
                    metadata_offset: 0,
                    link: Link::Unknown,
                    registered: Milestone::At(image.offset()),
                    shutdown: broker
                        .in_controlled_shutdown
                        .then(|| Milestone::At(image.offset())),
                };
                (broker.node_id, contact)
            })
            .collect();
        Self {
            session_timeout_ms,
            contacts,
        }
    }

    /// How long a silent broker is trusted, in ms.
    #[must_use]
    pub const fn session_timeout_ms(&self) -> i64 {
        self.session_timeout_ms
    }

    /// When the broker was last heard of, in ms of the controller's clock.
    #[must_use]
    pub fn last_contact_ms(&self, node: NodeId) -> Option<i64> {
        Some(self.contacts.get(&node)?.last_contact_ms)
    }

    /// The offset of the metadata that the broker last said to have applied.
    #[must_use]
    pub fn metadata_offset(&self, node: NodeId) -> Option<u64> {
        Some(self.contacts.get(&node)?.metadata_offset)
    }

    /// Adds time during which nobody could be heard.
    pub(super) fn extend(&mut self, gap_ms: i64) {
        for contact in self.contacts.values_mut() {
            contact.last_contact_ms += gap_ms;
        }
    }

    /// The unfenced brokers that were silent for too long.
    pub(super) fn expired(&self, now_ms: i64, image: &MetadataImage) -> BTreeSet<NodeId> {
        image
            .brokers()
            .filter(|broker| !broker.fenced)
            .map(|broker| broker.node_id)
            .filter(|node| {
                self.contacts
                    .get(node)
                    .is_none_or(|contact| self.is_silent(contact, now_ms))
            })
            .collect()
    }

    fn is_silent(&self, contact: &Contact, now_ms: i64) -> bool {
        now_ms - contact.last_contact_ms > self.session_timeout_ms
    }

    /// Whether another process of the same node must be taken for alive when one with this disk registers.
    ///
    /// Two processes cannot hold one disk (its directory is locked): who comes with the same disk is taken for the
    /// old one's successor, unless the old one's session stream is open, as with a copied directory.
    pub(super) fn has_valid_session(
        &self,
        now_ms: i64,
        node: NodeId,
        newcomer: BrokerUuid,
    ) -> bool {
        self.contacts.get(&node).is_some_and(|contact| {
            let may_live = match contact.link {
                Link::Open => true,
                Link::Unknown | Link::Closed => contact.broker_uuid != newcomer,
                Link::Gone => false,
            };
            may_live && !self.is_silent(contact, now_ms)
        })
    }

    pub(super) fn registered(
        &mut self,
        now_ms: i64,
        node: NodeId,
        incarnation: Incarnation,
        broker_uuid: BrokerUuid,
        proposal: u64,
    ) {
        // The stream may have been opened just before the registration.
        let link = self
            .contacts
            .get(&node)
            .filter(|contact| contact.incarnation == incarnation)
            .map_or(Link::Unknown, |contact| contact.link);
        let contact = Contact {
            incarnation,
            broker_uuid,
            last_contact_ms: now_ms,
            metadata_offset: 0,
            link,
            registered: Milestone::Proposed(proposal),
            shutdown: None,
        };
        self.contacts.insert(node, contact);
    }

    pub(super) fn unregistered(&mut self, node: NodeId) {
        self.contacts.remove(&node);
    }

    pub(super) fn heard(&mut self, now_ms: i64, node: NodeId, metadata_offset: u64) {
        if let Some(contact) = self.contacts.get_mut(&node) {
            contact.last_contact_ms = contact.last_contact_ms.max(now_ms);
            contact.metadata_offset = contact.metadata_offset.max(metadata_offset);
            if contact.link == Link::Gone {
                contact.link = Link::Unknown;
            }
        }
    }

    pub(super) fn session_opened(&mut self, now_ms: i64, node: NodeId, incarnation: Incarnation) {
        if let Some(contact) = self.of_process(node, incarnation) {
            contact.link = Link::Open;
            contact.last_contact_ms = contact.last_contact_ms.max(now_ms);
        }
    }

    pub(super) fn session_closed(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(contact) = self.of_process(node, incarnation)
            && contact.link != Link::Gone
        {
            contact.link = Link::Closed;
        }
    }

    pub(super) fn process_gone(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(contact) = self.of_process(node, incarnation) {
            contact.link = Link::Gone;
        }
    }

    fn of_process(&mut self, node: NodeId, incarnation: Incarnation) -> Option<&mut Contact> {
        self.contacts
            .get_mut(&node)
            .filter(|contact| contact.incarnation == incarnation)
    }

    /// Whether the broker has applied its own registration.
    pub(super) fn is_caught_up(&self, node: NodeId) -> bool {
        self.contacts
            .get(&node)
            .is_some_and(|contact| contact.registered.is_reached_by(contact.metadata_offset))
    }

    pub(super) fn shutdown_begun(&mut self, node: NodeId, proposal: u64) {
        if let Some(contact) = self.contacts.get_mut(&node) {
            contact.shutdown = Some(Milestone::Proposed(proposal));
        }
    }

    /// Whether all of `others` have applied the records by which `node` handed over its leaderships.
    pub(super) fn shutdown_is_known_to(
        &self,
        node: NodeId,
        mut others: impl Iterator<Item = NodeId>,
    ) -> bool {
        let Some(begun) = self.contacts.get(&node).and_then(|c| c.shutdown) else {
            return false;
        };
        matches!(begun, Milestone::At(_))
            && others.all(|other| {
                self.metadata_offset(other)
                    .is_some_and(|offset| begun.is_reached_by(offset))
            })
    }

    pub(super) fn committed(&mut self, proposal: u64, offset: u64) {
        let resolve = |milestone: &mut Milestone| {
            if *milestone == Milestone::Proposed(proposal) {
                *milestone = Milestone::At(offset);
            }
        };
        for contact in self.contacts.values_mut() {
            resolve(&mut contact.registered);
            if let Some(shutdown) = &mut contact.shutdown {
                resolve(shutdown);
            }
        }
    }
}

/// Whether a request comes from the current registration of its broker.
pub(super) fn is_current(image: &MetadataImage, node: NodeId, epoch: BrokerEpoch) -> bool {
    image
        .broker(node)
        .is_some_and(|broker| broker.epoch == epoch)
}
