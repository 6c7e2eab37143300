//! How do the tables of keys read as a page of documentation?

use std::fmt::Write as _;

use crate::key::{ConfigKey, Support, Validator};
use crate::{broker_keys, topic_keys};

const INTRODUCTION: &str = "\
# Configuration reference

Generated from the tables in `crates/config`; a test keeps this page equal to them.

A key that is accepted has an effect. Keys of Kafka that have none here are refused by name, with the reason below;
unknown keys are refused with the nearest known name.
";

/// The page `docs/configuration.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Broker keys\n\nSet in `config` of a broker's file or of a `KafkaCluster`. `read-only` keys take effect at start, the others at once.\n\n");
    effective(&mut page, broker_keys::EFFECTIVE, true);
    page.push_str("\n### Broker keys that are refused\n\n");
    refused(&mut page, broker_keys::NOT_EFFECTIVE);
    page.push_str(
        "\n## Topic keys\n\nSet on a topic, or for all topics by the broker keys named.\n\n",
    );
    effective(&mut page, topic_keys::EFFECTIVE, false);
    page.push_str("\n### Topic keys that are refused\n\n");
    refused(&mut page, topic_keys::NOT_EFFECTIVE);
    page
}

fn effective(page: &mut String, keys: &[ConfigKey], broker: bool) {
    let last = if broker { "Update" } else { "Broker keys" };
    page.push_str(&format!(
        "| Key | Type | Default | Values | {last} | What it does |\n|---|---|---|---|---|---|\n"
    ));
    for key in keys {
        let last = if broker {
            key.scope.name().to_owned()
        } else {
            let names: Vec<String> = key
                .broker_keys
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            names.join(", ")
        };
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            key.kind.name().to_lowercase(),
            key.default
                .map_or_else(|| "none".to_owned(), |value| format!("`{value}`")),
            values(key.validator),
            last,
            key.doc.trim(),
        )
        .expect("a String takes all that is written to it");
    }
}

fn refused(page: &mut String, keys: &[ConfigKey]) {
    page.push_str("| Key | Why |\n|---|---|\n");
    for key in keys {
        let why = match key.support {
            Support::Effective => continue,
            Support::Refused(reason) => reason.to_owned(),
            Support::OnlyDefault(reason) => format!(
                "only `{}` is accepted: {reason}",
                key.default.unwrap_or_default()
            ),
        };
        writeln!(page, "| `{}` | {why} |", key.name)
            .expect("a String takes all that is written to it");
    }
}

fn values(validator: Validator) -> String {
    match validator {
        Validator::Any => "any".to_owned(),
        Validator::AtLeast(min) => format!(">= {min}"),
        Validator::Between(min, max) => format!("{min} to {max}"),
        Validator::BetweenDouble(min, max) => format!("{min} to {max}"),
        Validator::OneOf(known) | Validator::OneOfAnyCase(known) => known.join(", "),
        Validator::Replicas => "`*` or list of `partition:broker`".to_owned(),
        Validator::ListOf(known) => format!("list of {}", known.join(", ")),
    }
}
