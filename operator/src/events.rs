//! Which events does the operator write, and why only those?

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};

/// Every reason there is: a closed list, so that alerts can be written against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The object cannot be built.
    Invalid,
    /// The cluster became Ready.
    ClusterReady,
    /// A Ready cluster lost nodes.
    ClusterDegraded,
    /// A pod was deleted so that it comes back on the new template.
    PodRestarted,
    /// A change was held back to keep data or quorum.
    ChangeHeldBack,
    /// The request of a volume claim was raised.
    VolumeGrows,
    /// A change of storage that cannot be had was left out.
    StorageChangeRefused,
    /// The topic was created.
    TopicCreated,
    /// The topic grew.
    PartitionsAdded,
    /// The topic's configuration follows a change of the spec.
    ConfigChanged,
    /// Someone changed the topic by hand, and it was changed back.
    DriftReverted,
    /// The topic was deleted with its object.
    TopicDeleted,
    /// The object went, the topic stays.
    TopicKept,
    /// Another object owns the topic.
    TopicConflict,
    /// The spec wants what Kafka cannot do.
    Impossible,
    /// The Kafka cluster refused.
    Refused,
}

impl Reason {
    fn action(self) -> &'static str {
        match self {
            Self::Invalid | Self::TopicConflict | Self::Impossible => "Validate",
            Self::ClusterReady | Self::ClusterDegraded => "Observe",
            Self::PodRestarted => "Roll",
            Self::ChangeHeldBack | Self::VolumeGrows | Self::StorageChangeRefused => "Scale",
            Self::TopicCreated
            | Self::PartitionsAdded
            | Self::ConfigChanged
            | Self::DriftReverted
            | Self::Refused => "Reconcile",
            Self::TopicDeleted | Self::TopicKept => "Delete",
        }
    }

    fn type_(self) -> EventType {
        match self {
            Self::ClusterReady
            | Self::PodRestarted
            | Self::VolumeGrows
            | Self::TopicCreated
            | Self::PartitionsAdded
            | Self::ConfigChanged
            | Self::TopicDeleted
            | Self::TopicKept => EventType::Normal,
            Self::Invalid
            | Self::ClusterDegraded
            | Self::ChangeHeldBack
            | Self::StorageChangeRefused
            | Self::DriftReverted
            | Self::TopicConflict
            | Self::Impossible
            | Self::Refused => EventType::Warning,
        }
    }
}

/// Writes an event. An event that cannot be written is logged and forgotten: it must not fail a reconcile that did its work.
pub(crate) async fn publish(
    recorder: &Recorder,
    about: &ObjectReference,
    reason: Reason,
    note: impl Into<String>,
) {
    // The API takes at most 1024 bytes of note.
    let note: String = note.into().chars().take(1000).collect();
    let event = Event {
        type_: reason.type_(),
        reason: format!("{reason:?}"),
        note: Some(note),
        action: reason.action().into(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, about).await {
        tracing::warn!(%error, reason = ?reason, object = about.name.as_deref(), "failed to write an event");
    }
}
