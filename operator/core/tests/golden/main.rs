//! Do the examples still build the objects they built before, and are the files in `crds/` the ones the code generates?

use std::path::{Path, PathBuf};

use operator_core::api::v1alpha1::{KafkaCluster, KafkaTopic};
use operator_core::build::{self, Owner, Settings};
use operator_core::identity::{self, Known};
use operator_core::validate;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every YAML file under `examples/`, sorted.
fn examples() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository().join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("examples is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() >= 8, "the examples went missing: {files:?}");
    files
}

/// Everything that one example becomes, as a stream of YAML documents.
fn built(text: &str) -> String {
    let value: serde_json::Value = serde_yaml::from_str(text).expect("the example is YAML");
    let mut documents = Vec::new();
    match value["kind"].as_str() {
        Some("KafkaCluster") => {
            let object: KafkaCluster = serde_json::from_value(value).expect("a KafkaCluster");
            let cluster = validate::cluster(&object).expect("every example is valid");
            let uid = "5c9b1a8e-0000-4000-8000-000000000001";
            let identity = identity::assign(&cluster, uid, &Known::default());
            let owner = Owner {
                name: cluster.name.clone(),
                uid: uid.into(),
            };
            let objects = build::cluster(&cluster, &identity, &owner, &Settings::default())
                .expect("it builds");
            documents.push(serde_yaml::to_string(&objects.service_account));
            documents.extend(objects.services.iter().map(serde_yaml::to_string));
            documents.extend(objects.config_maps.iter().map(serde_yaml::to_string));
            documents.push(serde_yaml::to_string(&objects.pdb));
            documents.extend(objects.stateful_sets.iter().map(serde_yaml::to_string));
        }
        Some("KafkaTopic") => {
            let object: KafkaTopic = serde_json::from_value(value).expect("a KafkaTopic");
            let topic = validate::topic(&object).expect("every example is valid");
            documents.push(Ok(format!("{topic:#?}\n")));
        }
        other => unreachable!("no golden rule for kind {other:?}"),
    }
    documents
        .into_iter()
        .map(|document| document.expect("objects have a YAML form"))
        .collect::<Vec<_>>()
        .join("---\n")
}

#[test]
fn every_example_builds_its_golden_objects() {
    let root = repository().join("examples");
    for path in examples() {
        let name = path
            .strip_prefix(&root)
            .expect("under examples")
            .with_extension("");
        let name = name.to_string_lossy().replace('/', "__");
        let text = std::fs::read_to_string(&path).expect("the example is readable");
        let built = built(&text);
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, built);
        });
    }
}

#[test]
fn examples_survive_a_round_trip_through_the_types() {
    for path in examples() {
        let text = std::fs::read_to_string(&path).expect("the example is readable");
        let written: serde_json::Value = serde_yaml::from_str(&text).expect("the example is YAML");
        let typed = match written["kind"].as_str() {
            Some("KafkaCluster") => serde_json::to_value(
                serde_json::from_value::<KafkaCluster>(written.clone()).expect("typed"),
            ),
            _ => serde_json::to_value(
                serde_json::from_value::<KafkaTopic>(written.clone()).expect("typed"),
            ),
        };
        assert_contains(&typed.expect("JSON"), &written, &path.display().to_string());
    }
}

/// Every field of `part` is in `whole` with the same value: a field that the types dropped would be an ignored setting.
fn assert_contains(whole: &serde_json::Value, part: &serde_json::Value, at: &str) {
    match (whole, part) {
        (serde_json::Value::Object(whole), serde_json::Value::Object(part)) => {
            for (key, value) in part {
                let found = whole.get(key);
                assert!(found.is_some(), "{at}.{key} is lost");
                assert_contains(found.expect("just checked"), value, &format!("{at}.{key}"));
            }
        }
        _ => assert_eq!(whole, part, "{at}"),
    }
}

#[test]
fn crd_files_are_what_the_code_generates() {
    for crd in operator_core::crds() {
        let path = repository()
            .join("crds")
            .join(operator_core::crd_file_name(&crd));
        let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            on_disk == operator_core::crd_yaml(&crd),
            "{} is stale: run `cargo run -p operator-core --example write-crds`",
            path.display()
        );
    }
}

#[test]
fn crds_hold_nothing_that_an_api_server_would_change() {
    for crd in operator_core::crds() {
        let yaml = operator_core::crd_yaml(&crd);
        assert!(
            yaml.len() < 262_144,
            "too large for a last-applied annotation: {}",
            yaml.len()
        );
        for needle in [
            "required: []",
            "properties: {}",
            "nullable:",
            "format: uint",
            ".0\n",
        ] {
            assert!(
                !yaml.contains(needle),
                "{needle:?} in {}",
                operator_core::crd_file_name(&crd)
            );
        }
    }
}

/// Walks every schema node and hands it to `visit` with its path.
fn walk(schema: &serde_json::Value, path: &str, visit: &mut impl FnMut(&str, &serde_json::Value)) {
    visit(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, child) in properties {
            walk(child, &format!("{path}.{name}"), visit);
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "[*]")] {
        if schema[key].is_object() {
            walk(&schema[key], &format!("{path}{suffix}"), visit);
        }
    }
}

/// Types of the Kubernetes API itself, whose schemas are not ours to bound.
fn is_foreign(path: &str) -> bool {
    [
        "affinity",
        "tolerations[]",
        "topologySpreadConstraints[]",
        "conditions[]",
    ]
    .iter()
    .any(|foreign| path.contains(foreign))
}

#[test]
fn every_field_of_a_spec_is_described_and_bounded() {
    for crd in operator_core::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("JSON");
        let spec = &schema["openAPIV3Schema"]["properties"]["spec"];
        let mut bad = Vec::new();
        walk(spec, "spec", &mut |path, node| {
            if is_foreign(path) {
                return;
            }
            let element = path.ends_with(']');
            if !element && node["description"].as_str().is_none_or(str::is_empty) {
                bad.push(format!("{path} has no description"));
            }
            let bound = match node["type"].as_str() {
                Some("array") => "maxItems",
                Some("string") if node.get("enum").is_none() => "maxLength",
                Some("object") if node.get("additionalProperties").is_some() => "maxProperties",
                _ => return,
            };
            // Values of labels, annotations and the like: Kubernetes bounds them itself.
            if node.get(bound).is_none() && !path.ends_with("[*]") {
                bad.push(format!("{path} has no {bound}"));
            }
        });
        assert!(bad.is_empty(), "{bad:#?}");
    }
}
