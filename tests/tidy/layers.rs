//! Does every crate depend only on crates of lower layers?

use std::collections::BTreeMap;

use crate::{assert_none, metadata};

/// The layers from the bottom up; a crate may use the crates of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["types"],
    &["config"],
    &["wire", "rpc", "broker-log", "broker-core", "operator-core"],
    &["client", "telemetry"],
    &["broker", "operator", "controlplane"],
    &["cli"],
    &["tests", "bench"],
];

/// What a pure core must never link: sockets, runtimes, clients.
const NOT_IN_CORES: &[&str] = &[
    "tokio",
    "tonic",
    "kube",
    "kube-client",
    "hyper",
    "rustls",
    "openraft",
    "socket2",
];
const CORES: &[&str] = &[
    "types",
    "config",
    "wire",
    "broker-log",
    "broker-core",
    "operator-core",
];

/// Exceptions, each with its reason.
const ALLOWED: &[(&str, &str, &str)] = &[];

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Crate -> its normal dependencies (development and build dependencies are not layers' business).
type Graph = BTreeMap<String, Vec<String>>;

fn workspace_graph() -> Graph {
    let metadata = metadata();
    let members: Vec<&str> = metadata["workspace_members"]
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(|id| id.as_str())
        .collect();
    metadata["packages"]
        .as_array()
        .expect("an array")
        .iter()
        .filter(|package| {
            package["id"]
                .as_str()
                .is_some_and(|id| members.contains(&id))
        })
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .expect("an array")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect();
            (
                package["name"].as_str().expect("a name").to_owned(),
                dependencies,
            )
        })
        .collect()
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (name, dependencies) in graph {
        let Some(layer) = layer_of(name) else {
            found.push(format!(
                "crate {name} has no layer: add it to LAYERS in tests/tidy/layers.rs"
            ));
            continue;
        };
        for dependency in dependencies {
            if ALLOWED
                .iter()
                .any(|(from, to, _)| from == name && to == dependency)
            {
                continue;
            }
            if layer_of(dependency).is_some_and(|below| below >= layer) {
                found.push(format!(
                    "{name} (layer {layer}) must not depend on {dependency}"
                ));
            }
            if CORES.contains(&name.as_str()) && NOT_IN_CORES.contains(&dependency.as_str()) {
                found.push(format!(
                    "{name} is a pure core and must not link {dependency}"
                ));
            }
        }
    }
    found
}

#[test]
fn crates_depend_only_on_lower_layers() {
    assert_none("layers", &violations(&workspace_graph()));
}

#[test]
fn a_broken_layer_is_reported() {
    let graph = Graph::from([
        ("broker".to_owned(), vec!["operator".to_owned()]),
        ("types".to_owned(), vec!["tokio".to_owned()]),
        ("cellar".to_owned(), vec![]),
        (
            "cli".to_owned(),
            vec!["broker".to_owned(), "tokio".to_owned()],
        ),
    ]);
    let found = violations(&graph);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found
            .iter()
            .any(|text| text.contains("broker (layer 4) must not depend on operator"))
    );
    assert!(
        found
            .iter()
            .any(|text| text.contains("types is a pure core"))
    );
    assert!(
        found
            .iter()
            .any(|text| text.contains("cellar has no layer"))
    );
}
