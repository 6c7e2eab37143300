//! Why is a pod not running, in the words of the kubelet, the scheduler, or its own last line of output?

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt as _;

/// Reasons of a waiting container that do not pass by themselves, as the kubelet names them.
const STUCK: &[&str] = &[
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// Longest text taken over into a condition; a kubelet keeps up to 2 KiB of output.
const LONGEST: usize = 300;

/// One sentence on the first pod that cannot run; `None` while all run or merely start.
pub(super) fn first(pods: &[Pod]) -> Option<String> {
    pods.iter().find_map(of)
}

fn of(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| {
            let why = condition.message.as_deref().or(condition.reason.as_deref());
            format!("is not scheduled: {}", why.unwrap_or("no reason given"))
        });
    let text = unschedulable.or_else(|| {
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
            .find_map(container)
    })?;
    Some(format!("{} {text}", pod.name_any()))
}

fn container(status: &ContainerStatus) -> Option<String> {
    let state = status.state.as_ref();
    let waiting = state
        .and_then(|state| state.waiting.as_ref())
        .filter(|waiting| {
            waiting
                .reason
                .as_deref()
                .is_some_and(|reason| STUCK.contains(&reason))
        });
    let ended = ended(state).or_else(|| {
        let between = waiting.is_some();
        between.then(|| ended(status.last_state.as_ref())).flatten()
    });
    if let Some(ended) = ended {
        let restarts = match status.restart_count {
            0 => String::new(),
            1 => ", restarted once".to_owned(),
            times => format!(", restarted {times} times"),
        };
        return Some(format!("stopped with {ended}{restarts}"));
    }
    let waiting = waiting?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    Some(match waiting.message.as_deref() {
        Some(message) => format!("waits: {reason}: {}", shorten(message)),
        None => format!("waits: {reason}"),
    })
}

/// How the process ended, unless it ended well.
fn ended(state: Option<&ContainerState>) -> Option<String> {
    let ended = state?
        .terminated
        .as_ref()
        .filter(|end| end.exit_code != 0)?;
    let last_line = ended
        .message
        .as_deref()
        .and_then(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    Some(match last_line {
        Some(line) => format!("exit code {}: {}", ended.exit_code, shorten(line.trim())),
        None => format!("exit code {}", ended.exit_code),
    })
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(status: serde_json::Value, expected: Option<&str>) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "shop-main-0"}, "status": status}))
                .expect("a pod");
        assert_eq!(first(&[pod]).as_deref(), expected);
    }

    fn one(state: serde_json::Value, last: serde_json::Value, restarts: i32) -> serde_json::Value {
        json!({"containerStatuses": [{
            "name": "broker", "image": "i", "imageID": "i", "ready": false, "restartCount": restarts,
            "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn a_crash_is_told_by_the_last_line_of_output() {
        let crash = json!({"terminated": {"exitCode": 1, "message": "starting\nfailed to listen on 127.0.10.1:9092\n"}});
        check(
            one(json!({"waiting": {"reason": "CrashLoopBackOff"}}), crash, 7),
            Some(
                "shop-main-0 stopped with exit code 1: failed to listen on 127.0.10.1:9092, restarted 7 times",
            ),
        );
    }

    #[test]
    fn an_image_and_a_scheduler_say_what_they_miss() {
        check(
            one(
                json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}}),
                json!({}),
                0,
            ),
            Some("shop-main-0 waits: ErrImagePull: not found"),
        );
        check(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes fit"}]}),
            Some("shop-main-0 is not scheduled: 0/3 nodes fit"),
        );
    }

    #[test]
    fn starting_running_and_restarted_pods_are_no_trouble() {
        check(
            one(
                json!({"waiting": {"reason": "ContainerCreating"}}),
                json!({}),
                0,
            ),
            None,
        );
        let killed = json!({"terminated": {"exitCode": 137}});
        check(
            one(
                json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
                killed,
                1,
            ),
            None,
        );
    }
}
