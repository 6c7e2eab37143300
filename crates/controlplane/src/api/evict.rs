//! eviction: may this pod be deleted now without breaking a disruption budget?

use serde_json::{Value, json};

use super::delete::DeleteOptions;
use super::{Api, Call, Reply};
use crate::api_error::ApiError;
use crate::selector::Selector;
use crate::store::{State, is_terminating};

impl Api {
    pub(super) fn evict(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let mut state = self.store.lock();
        let pod = state
            .objects
            .get(&call.key())
            .cloned()
            .ok_or_else(|| call.not_found())?;
        if is_ready(&pod) && !is_terminating(&pod) {
            self.check_budgets(&state, call, &pod)?;
        }
        let reply = self.delete_key(
            &mut state,
            &call.key(),
            &DeleteOptions::background(),
            call.now,
        )?;
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Reply {
            code: 201,
            body,
            ..reply
        })
    }

    fn check_budgets(&self, state: &State, call: &Call<'_>, pod: &Value) -> Result<(), ApiError> {
        let registry = &self.store.registry;
        let budgets = registry
            .by_kind("policy", "PodDisruptionBudget")
            .expect("budgets are always served");
        for (key, budget) in state.of_kind(budgets.id, &call.path.namespace) {
            let selector = Selector::from_label_selector(&budget["spec"]["selector"]);
            if !selector.matches(pod) {
                continue;
            }
            let pods = state
                .of_kind(call.kind.id, &call.path.namespace)
                .map(|(_, pod)| pod);
            let pods: Vec<&Value> = pods
                .filter(|pod| selector.matches(pod))
                .map(AsRef::as_ref)
                .collect();
            let room = Disruptions::of(budget, &pods);
            if room.allowed < 1 {
                let message = format!(
                    "needs {} healthy pods and has {} currently",
                    room.desired_healthy, room.current_healthy
                );
                return Err(ApiError::disruption_budget(&message, &key.name));
            }
        }
        Ok(())
    }
}

/// A pod whose Ready condition is True.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// What a budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disruptions {
    pub(crate) expected: i64,
    pub(crate) current_healthy: i64,
    pub(crate) desired_healthy: i64,
    pub(crate) allowed: i64,
}

impl Disruptions {
    pub(crate) fn of(budget: &Value, pods: &[&Value]) -> Self {
        let expected = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        let healthy = pods
            .iter()
            .filter(|pod| is_ready(pod) && !is_terminating(pod))
            .count();
        let current_healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
        let desired_healthy = match (
            budget["spec"].get("minAvailable"),
            budget["spec"].get("maxUnavailable"),
        ) {
            (Some(min), _) => amount(min, expected),
            (None, Some(max)) => (expected - amount(max, expected)).max(0),
            (None, None) => expected,
        };
        let allowed = (current_healthy - desired_healthy).max(0);
        Self {
            expected,
            current_healthy,
            desired_healthy,
            allowed,
        }
    }
}

/// An int-or-percentage of `total`, percentages rounded up.
fn amount(value: &Value, total: i64) -> i64 {
    let percent = value
        .as_str()
        .and_then(|text| text.strip_suffix('%'))
        .and_then(|text| text.parse::<i64>().ok());
    match percent {
        Some(percent) => (total * percent + 99) / 100,
        None => value.as_i64().unwrap_or(0),
    }
}
