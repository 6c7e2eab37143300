//! Which pod may restart next?
//!
//! A pure function of what is observed now, so an operator that dies in the middle of a roll goes on where it was. Rules, in order:
//! 1. While the nodes that are Ready are no majority, the cluster is down anyway: outdated pods that are not Ready are replaced, all of
//!    them, so that a corrected template can end an outage that a bad one began.
//! 2. A pod that runs the new revision and is not Ready stops the roll: at most one pod meets a bad template.
//! 3. An outdated pod that is not Ready goes before healthy ones.
//! 4. A healthy pod is replaced only while every partition of the cluster has all its replicas in sync; not knowing counts as no. Replicas
//!    that a running reassignment adds are not missed, as in the brokers' own CanRestart: moves that take long hold no roll back.
//! 5. The active controller goes last; while nobody says which node that is, no healthy pod goes.
//!
//! Caveat: this looks at the ISR through the Kafka protocol. The roll that asks the brokers themselves, and drains them, replaces it later.

use crate::api::v1alpha1::RollPhase;

/// One pod as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// Name of the pod.
    pub name: String,
    /// Its uid, the precondition of a deletion.
    pub uid: String,
    /// Whether it runs the newest template of its StatefulSet.
    pub current: bool,
    /// Whether it is Ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Kafka's node id.
    pub node_id: i32,
}

/// What the Kafka cluster says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaHealth {
    /// Nobody answered; why.
    Unknown(String),
    /// The answer.
    Known {
        /// Partitions with fewer replicas in sync than assigned, as `topic-partition`.
        under_replicated: Vec<String>,
        /// Node id of the active controller, if the answer named one.
        active_controller: Option<i32>,
    },
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every pod runs the newest template.
    Done,
    /// Nothing can be done now.
    Wait {
        /// The pod that is waited for or held back.
        pod: String,
        /// What is waited for.
        phase: RollPhase,
        /// Reason in CamelCase for the condition.
        reason: &'static str,
        /// The sentence for people.
        block: String,
    },
    /// Delete these pods, each by name and uid.
    Restart(Vec<(String, String)>),
}

/// How many partition names a message shows.
const SHOWN_PARTITIONS: usize = 10;

/// The sentence about partitions without all their replicas in sync, for conditions and events.
#[must_use]
pub fn not_in_sync(under_replicated: &[String]) -> String {
    let shown: Vec<&str> = under_replicated
        .iter()
        .take(SHOWN_PARTITIONS)
        .map(String::as_str)
        .collect();
    format!(
        "{} partitions are not fully in sync: {}",
        under_replicated.len(),
        shown.join(", ")
    )
}

/// Decides the next step. `wanted` is the number of pods that should exist.
#[must_use]
pub fn next(pods: &[PodState], wanted: usize, health: &KafkaHealth) -> Step {
    let Some(first_outdated) = pods.iter().find(|pod| !pod.current) else {
        return Step::Done;
    };
    let ready = pods.iter().filter(|pod| pod.ready && !pod.deleting).count();
    let stuck = || {
        pods.iter()
            .filter(|pod| !pod.current && !pod.ready && !pod.deleting)
    };
    if ready * 2 <= wanted && stuck().next().is_some() {
        return Step::Restart(stuck().map(key).collect());
    }
    if let Some(leaving) = pods.iter().find(|pod| pod.deleting) {
        return await_ready(&leaving.name, "is being replaced");
    }
    if pods.len() < wanted {
        return await_ready(&first_outdated.name, "waits for a missing pod to come back");
    }
    if let Some(canary) = pods.iter().find(|pod| pod.current && !pod.ready) {
        return await_ready(&canary.name, "runs the new template and is not Ready yet");
    }
    if let Some(pod) = stuck().next() {
        return Step::Restart(vec![key(pod)]);
    }
    next_healthy(pods, first_outdated, health)
}

fn next_healthy(pods: &[PodState], first_outdated: &PodState, health: &KafkaHealth) -> Step {
    let (under_replicated, active) = match health {
        KafkaHealth::Unknown(why) => {
            return Step::Wait {
                pod: first_outdated.name.clone(),
                phase: RollPhase::Precheck,
                reason: "WaitingForISR",
                block: format!("cannot tell whether all replicas are in sync: {why}"),
            };
        }
        KafkaHealth::Known {
            under_replicated,
            active_controller,
        } => (under_replicated, *active_controller),
    };
    if !under_replicated.is_empty() {
        let begun = pods.iter().any(|pod| pod.current);
        let phase = if begun {
            RollPhase::AwaitCaughtUp
        } else {
            RollPhase::Precheck
        };
        return Step::Wait {
            pod: first_outdated.name.clone(),
            phase,
            reason: "WaitingForISR",
            block: not_in_sync(under_replicated),
        };
    }
    let known = active.filter(|id| pods.iter().any(|pod| pod.node_id == *id));
    let Some(active) = known else {
        return Step::Wait {
            pod: first_outdated.name.clone(),
            phase: RollPhase::Precheck,
            reason: "WaitingForController",
            block: active.map_or_else(
                || "the active controller is not known".to_owned(),
                |id| {
                    format!(
                        "the active controller is said to be node {id}, which none of the pods is"
                    )
                },
            ),
        };
    };
    let outdated = pods.iter().filter(|pod| !pod.current);
    let pick = outdated
        .min_by_key(|pod| pod.node_id == active)
        .unwrap_or(first_outdated);
    Step::Restart(vec![key(pick)])
}

fn key(pod: &PodState) -> (String, String) {
    (pod.name.clone(), pod.uid.clone())
}

fn await_ready(pod: &str, what: &str) -> Step {
    Step::Wait {
        pod: pod.into(),
        phase: RollPhase::AwaitReady,
        reason: "WaitingForPod",
        block: format!("{pod} {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy(active: i32) -> KafkaHealth {
        KafkaHealth::Known {
            under_replicated: vec![],
            active_controller: Some(active),
        }
    }

    /// Pods `p0 p1 ..` from words of `n`ew or `o`ld, `r`eady or `u`nready, `d`eleting.
    fn pods(words: &str) -> Vec<PodState> {
        let pod = |(i, word): (usize, &str)| PodState {
            name: format!("p{i}"),
            uid: format!("u{i}"),
            current: word.contains('n'),
            ready: word.contains('r'),
            deleting: word.contains('d'),
            node_id: i32::try_from(i).expect("few pods"),
        };
        words.split(' ').enumerate().map(pod).collect()
    }

    fn check(words: &str, health: &KafkaHealth, expected: &str) {
        let said = match next(&pods(words), 3, health) {
            Step::Done => "done".to_owned(),
            Step::Wait { pod, phase, .. } => format!("wait {pod} {phase:?}"),
            Step::Restart(pods) => format!(
                "restart {}",
                pods.iter()
                    .map(|(name, _)| name.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        };
        assert_eq!(said, expected, "{words}");
    }

    #[test]
    fn pods_restart_one_at_a_time_and_the_active_controller_last() {
        check("or or or", &healthy(0), "restart p1");
        check("or ord or", &healthy(0), "wait p1 AwaitReady");
        check("or or", &healthy(0), "wait p0 AwaitReady");
        check("or nu or", &healthy(0), "wait p1 AwaitReady");
        check("or nr or", &healthy(0), "restart p2");
        check("or nr nr", &healthy(0), "restart p0");
        check("nr nr nr", &healthy(0), "done");
    }

    #[test]
    fn no_healthy_pod_goes_while_the_active_controller_is_not_one_of_them() {
        let nobody = KafkaHealth::Known {
            under_replicated: vec![],
            active_controller: None,
        };
        for health in [nobody, healthy(-1), healthy(7)] {
            check("or or or", &health, "wait p0 Precheck");
            check("or ou or", &health, "restart p1");
            check("nr nr nr", &health, "done");
        }
    }

    #[test]
    fn partitions_out_of_sync_hold_the_roll_back() {
        let behind = KafkaHealth::Known {
            under_replicated: vec!["orders-1".into()],
            active_controller: None,
        };
        check("or or or", &behind, "wait p0 Precheck");
        check("nr or or", &behind, "wait p1 AwaitCaughtUp");
        check(
            "or or or",
            &KafkaHealth::Unknown("connection refused".into()),
            "wait p0 Precheck",
        );
    }

    #[test]
    fn a_bad_template_meets_one_pod_only_and_its_correction_replaces_that_pod_at_once() {
        let down = KafkaHealth::Unknown("one is down".into());
        check("nu or or", &down, "wait p0 AwaitReady");
        check("ou or or", &down, "restart p0");
    }

    #[test]
    fn a_cluster_that_never_came_up_is_replaced_as_a_whole() {
        let down = KafkaHealth::Unknown("nobody answers".into());
        check("ou ou ou", &down, "restart p0 p1 p2");
        check("nu ou ou", &down, "restart p1 p2");
    }
}
