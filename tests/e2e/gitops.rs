//! Does the cluster follow the folder of manifests: edits, removals, mistakes?

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use tests::cluster::{Cluster, await_some, await_true, send_signal};
use tests::disk;

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
    let news = "KafkaTopic default/orders changed: spec.partitions 6 -> 12";
    assert!(cluster.up_log().contains(news), "{}", cluster.up_log());
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
    let news = "KafkaTopic default/orders deleted: orders.yaml no longer asks for it (deletionPolicy Retain: its data stays)";
    assert!(cluster.up_log().contains(news), "{}", cluster.up_log());
}

#[test]
fn the_file_of_a_topic_with_the_policy_delete_takes_its_data_along() {
    let cluster = Cluster::up("examples/quickstart");
    edit(
        &cluster,
        "  replicationFactor: 3",
        "  replicationFactor: 3\n  deletionPolicy: Delete",
    );
    let topic_folders = || {
        disk::log_dirs(&cluster.data_dir())
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).unwrap())
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                // A folder that waits for its deletion is called `orders-0.UUID-delete`.
                name.to_string_lossy()
                    .strip_prefix("orders-")
                    .is_some_and(|partition| partition.parse::<u32>().is_ok())
            })
            .count()
    };
    await_true("the policy is applied", || {
        cluster.up_log().contains("deletionPolicy")
    });
    assert_eq!(topic_folders(), 18);
    let file = cluster.manifests().join(ORDERS);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    await_true("the object and the topic are gone", || {
        object(&cluster, "KafkaTopic", "orders").is_none()
            && cluster.status().is_some()
            && partitions(&cluster).is_none()
    });
    await_true("its folders are no longer called by its name", || {
        topic_folders() == 0
    });
    assert!(
        cluster.up_log().contains(
            "orders.yaml no longer asks for it (deletionPolicy Delete: its data goes too)"
        ),
        "{}",
        cluster.up_log()
    );
    // Gone and back within a moment: the object that is being deleted must not swallow the new one.
    std::fs::write(&file, &text).unwrap();
    await_true("the topic is back", || partitions(&cluster) == Some(6));
    std::fs::remove_file(&file).unwrap();
    await_true("its deletion began", || {
        cluster.up_log().matches("no longer asks for it").count() == 2
    });
    std::fs::write(&file, &text).unwrap();
    await_true("the topic is there and Ready", || {
        object(&cluster, "KafkaTopic", "orders").is_some_and(|object| object["ready"] == true)
            && partitions(&cluster) == Some(6)
            && cluster.up_log().matches("orders created").count() == 3
    });
}

#[test]
fn a_file_that_was_renamed_and_then_broken_deletes_nothing() {
    let cluster = Cluster::up("examples/quickstart");
    let (old, new) = (
        cluster.manifests().join(ORDERS),
        cluster.manifests().join("topics.yaml"),
    );
    std::fs::rename(&old, &new).unwrap();
    // A change after the rename shows that the rename was seen.
    let text = std::fs::read_to_string(&new).unwrap();
    std::fs::write(&new, text.replace("partitions: 6", "partitions: 7")).unwrap();
    await_true("seven partitions", || partitions(&cluster) == Some(7));
    std::fs::write(&new, format!("{text}\tbroken: true\n")).unwrap();
    await_true("the mistake is seen", || {
        cluster
            .status()
            .is_some_and(|status| status["problems"].to_string().contains("topics.yaml"))
    });
    assert!(object(&cluster, "KafkaTopic", "orders").is_some());
    std::fs::write(&new, text.replace("partitions: 6", "partitions: 8")).unwrap();
    await_true("eight partitions", || partitions(&cluster) == Some(8));
}

#[test]
fn sighup_reads_the_folder_again_where_no_event_tells_of_a_change() {
    let cluster = Cluster::prepare("examples/single-node");
    // A checkout that is exchanged by moving a symbolic link: the watched folder itself never changes.
    let (first, second) = (
        cluster.scratch().join("first"),
        cluster.scratch().join("second"),
    );
    std::fs::rename(cluster.manifests(), &first).unwrap();
    copy_folder(&first, &second);
    symlink(&first, cluster.manifests()).unwrap();
    cluster.start();
    let more = "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: more\nspec:\n  clusterRef:\n    name: CLUSTER\n";
    let name = object_of_kind(&cluster, "KafkaCluster");
    std::fs::write(second.join("more.yaml"), more.replace("CLUSTER", &name)).unwrap();
    let aside = cluster.scratch().join("aside");
    symlink(&second, &aside).unwrap();
    std::fs::rename(&aside, cluster.manifests()).unwrap();
    assert!(object(&cluster, "KafkaTopic", "more").is_none());
    let pid = cluster.status().unwrap()["pid"].as_u64().unwrap();
    send_signal(u32::try_from(pid).unwrap(), "HUP");
    await_true("the new folder is applied", || {
        object(&cluster, "KafkaTopic", "more").is_some_and(|object| object["ready"] == true)
    });
    // And from now on the new folder is watched.
    std::fs::remove_file(second.join("more.yaml")).unwrap();
    await_true("a removal is seen without a signal", || {
        object(&cluster, "KafkaTopic", "more").is_none() && cluster.status().is_some()
    });
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn object_of_kind(cluster: &Cluster, kind: &str) -> String {
    let status = cluster.status().unwrap();
    let mut objects = status["objects"].as_array().unwrap().iter();
    let found = objects.find(|object| object["kind"] == kind).unwrap();
    found["name"].as_str().unwrap().to_owned()
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
