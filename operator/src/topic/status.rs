//! What does a KafkaTopic's status say?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use operator_core::api::v1alpha1::{KafkaTopic, KafkaTopicStatus};
use operator_core::conditions::{self, Verdict};
use operator_core::topic::{Impossible, ObservedTopic};
use serde_json::json;

use super::Error;
use crate::apply::{TOPIC_MANAGER, is_not_found};
use crate::context::Context;

/// How one reconcile ended.
#[derive(Debug)]
pub(super) enum Report<'a> {
    /// The topic is as the spec says.
    Done {
        topic: &'a str,
        observed: &'a ObservedTopic,
    },
    /// The topic is as far as it can be.
    Impossible {
        topic: &'a str,
        observed: &'a ObservedTopic,
        wishes: &'a [Impossible],
    },
    /// Something else must happen first.
    Waiting { reason: &'static str, text: &'a str },
    /// Kafka said no.
    Refused(&'a str),
    /// The spec makes no sense.
    Invalid(&'a str),
    /// Another object owns the topic.
    Conflict(&'a str),
    /// `managed: false`.
    Unmanaged,
}

/// Writes the status if it differs from what is there. Returns whether the message is new.
pub(super) async fn write(
    ctx: &Context,
    object: &KafkaTopic,
    report: Report<'_>,
) -> Result<bool, Error> {
    let old = object.status.clone().unwrap_or_default();
    let now = Timestamp::now();
    // Conditions carry whole seconds; more would differ from what the API server gives back.
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let status = next(object, &old, &report, &now);
    let news = status.message != old.message;
    if object.status.as_ref() == Some(&status) {
        return Ok(false);
    }
    let patch = json!({
        "apiVersion": "tidemark.dev/v1alpha1",
        "kind": "KafkaTopic",
        "metadata": { "name": object.name_any() },
        "status": status,
    });
    let params = PatchParams::apply(TOPIC_MANAGER).force();
    let api = ctx.api::<KafkaTopic>(&object.namespace().unwrap_or_default());
    match api
        .patch_status(&object.name_any(), &params, &Patch::Apply(patch))
        .await
    {
        Ok(_) => Ok(news),
        // Deleted meanwhile.
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(Error::Status(Box::new(error))),
    }
}

fn next(
    object: &KafkaTopic,
    old: &KafkaTopicStatus,
    report: &Report<'_>,
    now: &Time,
) -> KafkaTopicStatus {
    let generation = object.metadata.generation;
    let verdicts = verdicts(report);
    let message = message(report);
    let mut status = match report {
        Report::Done { topic, observed }
        | Report::Impossible {
            topic, observed, ..
        } => facts(topic, observed),
        Report::Waiting { .. } | Report::Refused(_) | Report::Invalid(_) => old.clone(),
        Report::Conflict(_) | Report::Unmanaged => KafkaTopicStatus::default(),
    };
    status.observed_generation = generation;
    status.phase = Some(phase(report, old).into());
    status.message = Some(message);
    status.conditions = conditions::merge(&old.conditions, &verdicts, generation, now);
    status
}

fn facts(topic: &str, observed: &ObservedTopic) -> KafkaTopicStatus {
    let (in_sync, replicas) = observed.isr();
    KafkaTopicStatus {
        topic_name: Some(topic.to_owned()),
        topic_id: Some(observed.topic_id.clone()),
        partitions: Some(observed.partition_count()),
        replication_factor: Some(observed.replication_factor()),
        isr: Some(format!("{in_sync}/{replicas}")),
        config: observed.config.clone(),
        ..KafkaTopicStatus::default()
    }
}

fn phase(report: &Report<'_>, old: &KafkaTopicStatus) -> &'static str {
    match report {
        Report::Done { observed, .. } if observed.healthy() => "Ready",
        Report::Done { .. } => "Degraded",
        Report::Impossible { .. } | Report::Refused(_) | Report::Invalid(_) => "Invalid",
        // A topic that was there and cannot be seen now is not pending.
        Report::Waiting { .. } if old.topic_id.is_some() => "Degraded",
        Report::Waiting { .. } => "Pending",
        Report::Conflict(_) => "Conflict",
        Report::Unmanaged => "Unmanaged",
    }
}

fn message(report: &Report<'_>) -> String {
    let summary = |observed: &ObservedTopic| {
        let (in_sync, replicas) = observed.isr();
        let count = observed.partition_count();
        let plural = if count == 1 {
            "partition"
        } else {
            "partitions"
        };
        format!(
            "{count} {plural}, replication factor {}, ISR {in_sync}/{replicas}",
            observed.replication_factor()
        )
    };
    match report {
        Report::Done { observed, .. } => summary(observed),
        Report::Impossible {
            observed, wishes, ..
        } => {
            let wishes = wishes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            format!("{wishes} (now: {})", summary(observed))
        }
        Report::Waiting { text, .. }
        | Report::Refused(text)
        | Report::Invalid(text)
        | Report::Conflict(text) => (*text).to_owned(),
        Report::Unmanaged => {
            "spec.managed is false: the operator leaves the topic alone".to_owned()
        }
    }
}

fn verdicts(report: &Report<'_>) -> Vec<Verdict> {
    let text = message(report);
    let unknown = |reason| Verdict::unknown("Healthy", reason, "the topic was not looked at");
    match report {
        Report::Done { observed, .. } => vec![
            Verdict::new("Ready", true, "AsSpecified", &text),
            healthy(observed),
        ],
        Report::Impossible { observed, .. } => vec![
            Verdict::new("Ready", false, "Impossible", &text),
            healthy(observed),
        ],
        Report::Waiting { reason, .. } => {
            vec![Verdict::new("Ready", false, reason, &text), unknown(reason)]
        }
        Report::Refused(_) => vec![
            Verdict::new("Ready", false, "Refused", &text),
            unknown("Refused"),
        ],
        Report::Invalid(_) => vec![
            Verdict::new("Ready", false, "Invalid", &text),
            unknown("Invalid"),
        ],
        Report::Conflict(_) => vec![
            Verdict::new("Ready", false, "Conflict", &text),
            unknown("Conflict"),
        ],
        Report::Unmanaged => vec![
            Verdict::unknown("Ready", "Unmanaged", &text),
            unknown("Unmanaged"),
        ],
    }
}

fn healthy(observed: &ObservedTopic) -> Verdict {
    let (in_sync, replicas) = observed.isr();
    let leaderless = observed
        .partitions
        .iter()
        .filter(|partition| !partition.has_leader)
        .count();
    if observed.healthy() {
        Verdict::new(
            "Healthy",
            true,
            "AllInSync",
            "every partition has a leader and all its replicas in sync",
        )
    } else if leaderless > 0 {
        Verdict::new(
            "Healthy",
            false,
            "NoLeader",
            format!("{leaderless} partitions have no leader"),
        )
    } else {
        Verdict::new(
            "Healthy",
            false,
            "UnderReplicated",
            format!("{in_sync} of {replicas} replicas are in sync"),
        )
    }
}
