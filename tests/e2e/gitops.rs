//! Does the cluster follow the folder of manifests: edits, removals, mistakes?

use serde_json::Value;
use tests::cluster::{Cluster, await_some, await_true};

const ORDERS: &str = "orders.yaml";

fn object(cluster: &Cluster, kind: &str, name: &str) -> Option<Value> {
    cluster.status()?["objects"]
        .as_array()?
        .iter()
        .find(|o| o["kind"] == kind && o["name"] == name)
        .cloned()
}

fn edit(cluster: &Cluster, from: &str, to: &str) {
    let path = cluster.manifests().join(ORDERS);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

fn partitions(cluster: &Cluster) -> Option<u64> {
    let output = cluster.command(&["topics", "orders", "-o", "json"]);
    let topics: Value = serde_json::from_slice(&output.stdout).ok()?;
    topics.as_array()?.first()?["partitions"]
        .as_array()
        .map(|list| list.len() as u64)
}

#[test]
fn an_edited_partition_count_is_carried_out_and_a_smaller_one_is_refused() {
    let cluster = Cluster::up("examples/quickstart");
    assert_eq!(partitions(&cluster), Some(6));
    edit(&cluster, "partitions: 6", "partitions: 12");
    await_true("the topic has 12 partitions", || {
        partitions(&cluster) == Some(12)
    });
    edit(&cluster, "partitions: 12", "partitions: 4");
    await_some("the refusal is seen", || {
        let problems = cluster.status()?["problems"].to_string();
        problems.contains("partitions").then_some(problems)
    });
    assert_eq!(partitions(&cluster), Some(12));
}

#[test]
fn the_file_of_a_topic_is_removed_and_its_data_stays() {
    let cluster = Cluster::up("examples/quickstart");
    std::fs::remove_file(cluster.manifests().join(ORDERS)).unwrap();
    await_true("the object is gone", || {
        object(&cluster, "KafkaTopic", "orders").is_none() && cluster.status().is_some()
    });
    assert_eq!(
        partitions(&cluster),
        Some(6),
        "deletionPolicy Retain keeps the topic"
    );
}

#[test]
fn five_wrong_files_give_five_precise_errors_and_disturb_nothing() {
    let cluster = Cluster::up("examples/quickstart");
    let topic = |name: &str, rest: &str| {
        format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: {name}\nspec:\n  clusterRef:\n    name: shop\n{rest}"
        )
    };
    let shop = std::fs::read_to_string(cluster.manifests().join("shop.yaml")).unwrap();
    let files = [
        ("tab.yaml", topic("tab", "\tpartitions: 3\n"), "tab.yaml:8"),
        (
            "unknown.yaml",
            topic("unknown", "  partitons: 3\n"),
            "partitions",
        ),
        (
            "wrong-type.yaml",
            topic("wrong-type", "  partitions: many\n"),
            "integer",
        ),
        ("twin.yaml", shop, "shop"),
        (
            "orphan.yaml",
            topic("orphan", "  partitions: 3\n").replace("name: shop", "name: nowhere"),
            "nowhere",
        ),
    ];
    for (name, text, _) in &files {
        std::fs::write(cluster.manifests().join(name), text).unwrap();
    }
    for (name, _, expected) in &files {
        await_some(
            &format!("{name} is complained about with {expected:?}"),
            || {
                let status = cluster.status()?;
                let about = |text: &str| {
                    text.contains(expected) && (text.contains(name) || text.contains("orphan"))
                };
                let problem = status["problems"]
                    .as_array()?
                    .iter()
                    .any(|p| p.as_str().is_some_and(about));
                let message = status["objects"].as_array()?.iter().any(|o| {
                    o["name"] == name.trim_end_matches(".yaml")
                        && o["message"]
                            .as_str()
                            .is_some_and(|text| text.contains(expected))
                });
                (problem || message).then_some(())
            },
        );
    }
    assert_eq!(partitions(&cluster), Some(6));
    assert_eq!(
        object(&cluster, "KafkaCluster", "shop").expect("still there")["ready"],
        true
    );
}
