//! Is the broker the same program wherever it runs? It knows neither Kubernetes nor the local mode.
//!
//! What it needs of its surroundings reaches it through its configuration file, its arguments and a few environment variables. No source
//! of it speaks of who sets them, and it links nothing that would.

use std::collections::{BTreeMap, BTreeSet};

use crate::{assert_none, metadata, read, tracked};

/// Sources of the broker, and of what it is built from.
const SOURCES: &[&str] = &[
    "broker/",
    "crates/types/",
    "crates/wire/",
    "crates/rpc/",
    "crates/telemetry/",
    "crates/config/src/environment.rs",
    "crates/cli/src/broker.rs",
];

/// Words (in lower case) of those who start brokers.
const FOREIGN: &[&str] = &[
    "kubernetes",
    "kubelet",
    "k8s",
    "statefulset",
    "configmap",
    "kube::",
    "kube_",
    "controlplane",
    "local mode",
    "local_mode",
    "localmode",
    "node agent",
    "tidemark up",
];

/// Lines that may hold such a word, each with its reason: file, part of the line, why.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "broker/",
        "ControlPlane",
        "the broker's own control plane: the metadata quorum and those who follow it",
    ),
    (
        "crates/telemetry/src/logging.rs",
        "kube_",
        "the operator logs through the same module, and its client's chatter is turned down",
    ),
    (
        "broker/",
        "ConfigMap",
        "keys and values of a topic's or broker's configuration, a type of crates/config",
    ),
];

/// Environment variables that the broker reads; each is of use to whoever runs brokers.
const VARIABLES: &[&str] = &[
    "TIDEMARK_ADVERTISED_HOST",
    "TIDEMARK_BIND_HOST",
    "TIDEMARK_HOSTS",
    "TIDEMARK_LOG",
    "TIDEMARK_LOG_FORMAT",
    "TIDEMARK_MOUNTS",
    "TIDEMARK_PARENT_FD",
    "TIDEMARK_PORT_OFFSET",
];

/// What the broker must not link, directly or through anything.
const NOT_LINKED: &[&str] = &[
    "controlplane",
    "operator",
    "operator-core",
    "k8s-openapi",
    "kube",
    "kube-client",
    "kube-core",
    "kube-runtime",
];

fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let allowed = ALLOWED
            .iter()
            .any(|(file, part, _)| path.starts_with(file) && line.contains(part));
        let lower = line.to_lowercase();
        for word in FOREIGN.iter().filter(|_| !allowed) {
            if lower.contains(word) {
                found.push(format!(
                    "{path}:{}: the broker does not know {word:?}: what it needs is an argument",
                    at + 1
                ));
            }
        }
        for variable in variables(line) {
            if !VARIABLES.contains(&variable.as_str()) {
                found.push(format!(
                    "{path}:{}: {variable} is not among the broker's environment variables",
                    at + 1
                ));
            }
        }
    }
    found
}

/// Names of environment variables of ours in a line.
fn variables(line: &str) -> Vec<String> {
    line.match_indices("TIDEMARK_")
        .map(|(at, _)| {
            let name = line[at..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_');
            name.collect()
        })
        .collect()
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Every package that `from` needs to be built, by name, from `cargo metadata`.
fn linked(metadata: &serde_json::Value, from: &str) -> BTreeSet<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let needs: BTreeMap<String, Vec<String>> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| {
            let normal = |dependency: &&serde_json::Value| {
                let kinds = dependency["dep_kinds"].as_array();
                kinds
                    .into_iter()
                    .flatten()
                    .any(|kind| kind["kind"].is_null())
            };
            let dependencies = node["deps"].as_array().into_iter().flatten();
            let ids = dependencies
                .filter(normal)
                .map(|dependency| text(&dependency["pkg"]));
            (text(&node["id"]), ids.collect())
        })
        .collect();
    let mut todo: Vec<String> = names
        .iter()
        .filter(|(_, name)| *name == from)
        .map(|(id, _)| id.clone())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if seen.insert(id.clone()) {
            todo.extend(needs.get(&id).into_iter().flatten().cloned());
        }
    }
    seen.iter()
        .filter_map(|id| names.get(id).cloned())
        .collect()
}

#[test]
fn the_broker_does_not_know_who_runs_it() {
    let found: Vec<String> = tracked(&[".rs"])
        .iter()
        .map(|path| (path.to_string_lossy().into_owned(), path))
        .filter(|(name, _)| SOURCES.iter().any(|folder| name.starts_with(folder)) && !is_test(name))
        .flat_map(|(name, path)| violations(&name, &read(path)))
        .collect();
    assert_none("surroundings", &found);
}

#[test]
fn the_broker_links_nothing_of_kubernetes_or_the_local_mode() {
    let linked = linked(&metadata(), "broker");
    assert!(
        linked.contains("tonic"),
        "the graph was not read: {linked:?}"
    );
    let found: Vec<String> = NOT_LINKED
        .iter()
        .filter(|name| linked.contains(**name))
        .map(|name| format!("broker links {name}"))
        .collect();
    assert_none("surroundings", &found);
}

#[test]
fn a_broker_that_knows_its_surroundings_is_reported() {
    for line in [
        "if running_in_kubernetes() {",
        "use controlplane::node;",
        "// in local mode ports are shifted",
        "env::var(\"TIDEMARK_IS_LOCAL\")",
    ] {
        assert_eq!(violations("broker/src/run.rs", line).len(), 1, "{line}");
    }
    let fine = "let plane: ControlPlane = start(env::var(\"TIDEMARK_HOSTS\"));";
    assert_eq!(violations("broker/src/run.rs", fine).len(), 0);
}
