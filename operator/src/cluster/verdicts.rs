//! What do the conditions, the phase and the message of a KafkaCluster say? Pure functions of what one reconcile saw.

use operator_core::api::v1alpha1::{KafkaCluster, KafkaClusterStatus, Role};
use operator_core::conditions::{self, Verdict};
use operator_core::identity::{Identity, Node};
use operator_core::roll::{self, KafkaHealth, Step};

use super::roll::Facts;
use crate::apply;

/// The condition that names changes of storage that are left out.
const STORAGE: &str = "StorageChangeRefused";
const NOT_TAKEN_UP: &str = "the StatefulSets have not taken up this generation yet";

/// Every condition.
pub(super) fn verdicts(object: &KafkaCluster, identity: &Identity, facts: &Facts) -> Vec<Verdict> {
    let old = object.status.clone().unwrap_or_default();
    let mut nodes = format!(
        "{} of {} nodes are Ready",
        ready_count(facts),
        identity.nodes.len()
    );
    if let Some(trouble) = &facts.trouble {
        nodes.push_str(&format!("; {trouble}"));
    }
    let missing = ready_count(facts) < identity.nodes.len();
    let mut verdicts = vec![
        ready(object, &old, facts, &nodes, missing),
        healthy(facts, &nodes, missing),
        progressing(identity, facts, &nodes, missing),
    ];
    verdicts.extend(storage(&old, facts));
    verdicts
}

/// Whether nothing is under way and nothing is wrong. A change that is refused is neither.
pub(super) fn settled(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| match verdict.type_ {
        "Progressing" => verdict.status == Some(false),
        STORAGE => true,
        _ => verdict.status == Some(true),
    })
}

fn rolling(facts: &Facts) -> Option<(&'static str, String)> {
    match &facts.step {
        Step::Done => None,
        Step::Wait { reason, block, .. } => Some((*reason, block.clone())),
        Step::Restart(pods) => {
            let names: Vec<&str> = pods.iter().map(|(name, _)| name.as_str()).collect();
            Some(("Restarting", names.join(", ")))
        }
    }
}

/// Why children could not be written.
fn failure(facts: &Facts) -> Option<(&'static str, String)> {
    let texts: Vec<String> = facts
        .failures
        .iter()
        .map(|error| crate::controllers::chain(error))
        .collect();
    let taken = |error: &apply::Error| matches!(error, apply::Error::Foreign { .. });
    let reason = if facts.failures.iter().any(taken) {
        "NameTaken"
    } else {
        "ApiError"
    };
    (!texts.is_empty()).then(|| (reason, texts.join("; ")))
}

fn ready(
    object: &KafkaCluster,
    old: &KafkaClusterStatus,
    facts: &Facts,
    nodes: &str,
    missing: bool,
) -> Verdict {
    // A cluster that serves this generation does not stop to because one repair of a child failed.
    let serves = old.observed_generation == object.metadata.generation
        && conditions::is_true(&old.conditions, "Ready");
    if !facts.observed {
        Verdict::new("Ready", false, "Applying", NOT_TAKEN_UP)
    } else if missing {
        Verdict::new("Ready", false, "NodesNotReady", nodes)
    } else if let Some((_, block)) = rolling(facts) {
        Verdict::new("Ready", false, "Rolling", block)
    } else if let Some((reason, text)) = failure(facts).filter(|_| !serves) {
        Verdict::new("Ready", false, reason, text)
    } else {
        Verdict::new("Ready", true, "AllNodesReady", nodes)
    }
}

fn progressing(identity: &Identity, facts: &Facts, nodes: &str, missing: bool) -> Verdict {
    if let Some((reason, text)) = failure(facts).or_else(|| rolling(facts)) {
        Verdict::new("Progressing", true, reason, text)
    } else if !facts.observed {
        Verdict::new("Progressing", true, "Applying", NOT_TAKEN_UP)
    } else if missing {
        Verdict::new("Progressing", true, "WaitingForPods", nodes)
    } else if !facts.volumes.growing.is_empty() {
        let text = facts.volumes.growing.join("; ");
        Verdict::new("Progressing", true, "VolumesGrow", text)
    } else if !identity.held.is_empty() {
        Verdict::new("Progressing", false, "ScaleDownBlocked", held(identity))
    } else {
        Verdict::new("Progressing", false, "Settled", "nothing is under way")
    }
}

fn healthy(facts: &Facts, nodes: &str, missing: bool) -> Verdict {
    match &facts.health {
        Some(KafkaHealth::Known {
            under_replicated, ..
        }) if under_replicated.is_empty() => Verdict::new(
            "Healthy",
            true,
            "AllInSync",
            "every partition has all its replicas in sync",
        ),
        Some(KafkaHealth::Known {
            under_replicated, ..
        }) => Verdict::new(
            "Healthy",
            false,
            "UnderReplicated",
            roll::not_in_sync(under_replicated),
        ),
        Some(KafkaHealth::Unknown(why)) => Verdict::unknown("Healthy", "NoAnswer", why),
        None if missing => Verdict::new("Healthy", false, "NodesNotReady", nodes),
        None => Verdict::unknown("Healthy", "NotAsked", "the cluster is starting"),
    }
}

/// There only once a change was refused.
fn storage(old: &KafkaClusterStatus, facts: &Facts) -> Option<Verdict> {
    if !facts.volumes.refused.is_empty() {
        return Some(Verdict::new(STORAGE, true, "NotPossible", refused(facts)));
    }
    let was_there = conditions::find(&old.conditions, STORAGE).is_some();
    was_there.then(|| Verdict::new(STORAGE, false, "AsSpecified", "nothing is refused any more"))
}

/// One word.
pub(super) fn phase(old: &KafkaClusterStatus, ready: bool, facts: &Facts) -> &'static str {
    let was_up = old
        .phase
        .as_deref()
        .is_some_and(|phase| matches!(phase, "Ready" | "Degraded" | "Rolling"));
    if facts.step != Step::Done {
        "Rolling"
    } else if ready {
        "Ready"
    } else if was_up && facts.failures.is_empty() {
        "Degraded"
    } else {
        "Progressing"
    }
}

/// One sentence, or a few.
pub(super) fn message(identity: &Identity, facts: &Facts) -> String {
    let of_role = |role: Role| {
        let nodes: Vec<&Node> = identity
            .nodes
            .iter()
            .filter(|node| node.roles.contains(&role))
            .collect();
        let ready = nodes.iter().filter(|node| is_ready(facts, &node.pod));
        (ready.count(), nodes.len())
    };
    let (brokers, all_brokers) = of_role(Role::Broker);
    let mut sentences = vec![format!("{brokers}/{all_brokers} brokers ready")];
    if all_brokers < identity.nodes.len() {
        let (controllers, all_controllers) = of_role(Role::Controller);
        sentences[0].push_str(&format!(
            ", {controllers}/{all_controllers} controllers ready"
        ));
    }
    sentences.extend(facts.trouble.clone());
    if let Step::Wait { block, .. } = &facts.step {
        sentences.push(format!("rolling: {block}"));
    }
    sentences.extend(failure(facts).map(|(_, text)| text));
    sentences.extend(facts.volumes.growing.iter().cloned());
    if !identity.held.is_empty() {
        sentences.push(held(identity));
    }
    if !facts.volumes.refused.is_empty() {
        sentences.push(refused(facts));
    }
    sentences.join("; ")
}

/// What is held back.
pub(super) fn held(identity: &Identity) -> String {
    let held = identity.held.iter().map(ToString::to_string);
    held.collect::<Vec<_>>().join("; ")
}

/// Changes of storage that are left out.
pub(super) fn refused(facts: &Facts) -> String {
    let refused = facts.volumes.refused.iter().map(ToString::to_string);
    refused.collect::<Vec<_>>().join("; ")
}

/// Whether a pod is Ready.
pub(super) fn is_ready(facts: &Facts, pod: &str) -> bool {
    facts
        .pods
        .iter()
        .any(|state| state.name == pod && state.ready)
}

/// Nodes that are Ready.
pub(super) fn ready_count(facts: &Facts) -> usize {
    facts.pods.iter().filter(|pod| pod.ready).count()
}
