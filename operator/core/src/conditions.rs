//! How does a status condition change?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition shall say now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Ready`, `Healthy` or `Progressing`.
    pub type_: &'static str,
    /// `None` is "Unknown".
    pub status: Option<bool>,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Verdict {
    /// A condition that says yes or no.
    pub fn new(
        type_: &'static str,
        status: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status: Some(status),
            reason,
            message: message.into(),
        }
    }

    /// A condition that cannot tell.
    pub fn unknown(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: None,
            reason,
            message: message.into(),
        }
    }
}

/// The longest message a condition may have, by the Kubernetes API.
const MAX_MESSAGE: usize = 32_768;

/// The conditions after the verdicts: `lastTransitionTime` moves only when the status does, so that an unchanged status stays unchanged
/// byte for byte. Conditions of other types are kept.
#[must_use]
pub fn merge(
    old: &[Condition],
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let mut merged: Vec<Condition> = old
        .iter()
        .filter(|c| verdicts.iter().all(|v| v.type_ != c.type_))
        .cloned()
        .collect();
    for verdict in verdicts {
        let status = verdict
            .status
            .map_or("Unknown", |yes| if yes { "True" } else { "False" });
        let same = old
            .iter()
            .find(|c| c.type_ == verdict.type_ && c.status == status);
        merged.push(Condition {
            type_: verdict.type_.into(),
            status: status.into(),
            reason: verdict.reason.into(),
            message: verdict.message.chars().take(MAX_MESSAGE).collect(),
            observed_generation: generation,
            last_transition_time: same
                .map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
        });
    }
    merged.sort_by(|a, b| a.type_.cmp(&b.type_));
    merged
}

/// The condition of a type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition of a type is "True".
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("in range"))
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let first = merge(
            &[],
            &[Verdict::new("Ready", false, "Starting", "0/3")],
            Some(1),
            &at(1),
        );
        let second = merge(
            &first,
            &[Verdict::new("Ready", false, "Starting", "1/3")],
            Some(1),
            &at(2),
        );
        assert_eq!(second[0].last_transition_time, at(1));
        assert_eq!(second[0].message, "1/3");
        let third = merge(
            &second,
            &[Verdict::new("Ready", true, "AllReady", "3/3")],
            Some(2),
            &at(3),
        );
        assert_eq!(third[0].last_transition_time, at(3));
        assert_eq!(third[0].observed_generation, Some(2));
    }

    #[test]
    fn conditions_of_others_stay() {
        let foreign = merge(
            &[],
            &[Verdict::unknown("Audited", "Never", "")],
            None,
            &at(1),
        );
        let merged = merge(
            &foreign,
            &[Verdict::new("Ready", true, "AllReady", "")],
            Some(1),
            &at(2),
        );
        assert_eq!(
            merged.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            ["Audited", "Ready"]
        );
    }
}
