//! Validation tables: one row an object, one expected message.

use super::*;
use crate::api::v1alpha1::{KafkaCluster, KafkaTopic};

const GOOD: &str = r"
apiVersion: tidemark.dev/v1alpha1
kind: KafkaCluster
metadata: {name: shop, namespace: default}
spec:
  pools: [{name: main, roles: [controller, broker], replicas: 3, storage: {size: 1Gi}}]
";

/// Applies `change` to the good cluster and expects exactly these errors.
fn check_cluster(change: impl FnOnce(&mut KafkaCluster), expected: &[&str]) {
    let mut object: KafkaCluster = serde_yaml::from_str(GOOD).expect("the good cluster parses");
    change(&mut object);
    let errors = cluster(&object)
        .err()
        .map(|invalid| invalid.errors)
        .unwrap_or_default();
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        expected
    );
}

fn check_topic(yaml: &str, expected: &[&str]) {
    let spec = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata: {{name: orders, namespace: default}}\nspec: {yaml}\n"
    );
    let object: KafkaTopic = serde_yaml::from_str(&spec).expect("the topic parses");
    let errors = topic(&object)
        .err()
        .map(|invalid| invalid.errors)
        .unwrap_or_default();
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn a_small_cluster_is_accepted_with_defaults() {
    let object: KafkaCluster = serde_yaml::from_str(GOOD).expect("the good cluster parses");
    let valid = cluster(&object).expect("it is valid");
    assert_eq!(valid.listeners.len(), 1);
    assert_eq!(valid.listeners[0].port, 9092);
}

#[test]
fn wrong_clusters_say_where_what_and_what_would_be_right() {
    check_cluster(|_| {}, &[]);
    check_cluster(
        |c| c.spec.pools[0].roles = vec![crate::api::v1alpha1::Role::Broker],
        &["spec.pools: no pool has the role controller: add controller to the roles of a pool"],
    );
    check_cluster(
        |c| c.spec.pools[0].replicas = 0,
        &["spec.pools[main].replicas: 0 nodes: at least 1; remove the pool if it is not wanted"],
    );
    check_cluster(
        |c| c.spec.pools[0].replicas = 11,
        &[
            "spec.pools: 11 nodes have the role controller: at most 9: give further nodes the role broker only, in a pool of their own",
        ],
    );
    check_cluster(
        |c| {
            let twin = c.spec.pools[0].clone();
            c.spec.pools.push(twin);
        },
        &["spec.pools[main]: another pool has the same name: a name of its own for each pool"],
    );
    check_cluster(
        |c| c.spec.listeners[0].port = 9090,
        &[
            "spec.listeners[internal].port: port 9090 is taken by the node itself: any port but 9090 and 9404",
        ],
    );
    check_cluster(
        |c| {
            c.spec.pools[0]
                .template
                .pod
                .labels
                .insert("tidemark.dev/cluster".into(), "x".into());
        },
        &[
            "spec.pools[main].template.pod.labels[tidemark.dev/cluster]: keys under tidemark.dev/ are set by the operator: use a prefix of your own",
        ],
    );
}

#[test]
fn unknown_and_operator_owned_keys_are_refused_by_name() {
    let with = |key: &str| {
        let key = key.to_owned();
        move |c: &mut KafkaCluster| {
            c.spec.config.insert(key, "1".into());
        }
    };
    check_cluster(
        with("min.insync.replica"),
        &["spec.config[min.insync.replica]: unknown key: did you mean min.insync.replicas?"],
    );
    check_cluster(
        with("log.dirs"),
        &["spec.config[log.dirs]: the operator sets this key itself: use spec.pools[].storage"],
    );
    check_cluster(
        with("node.id"),
        &["spec.config[node.id]: the operator sets this key itself: remove it"],
    );
    check_cluster(
        |c| {
            c.spec.config.insert("num.partitions".into(), "many".into());
        },
        &[
            "spec.config[num.partitions]: \"many\" is not a value of this key: Not a number of type INT",
        ],
    );
    check_topic(
        "{clusterRef: {name: shop}, config: {retention.msec: '1'}}",
        &["spec.config[retention.msec]: unknown key: did you mean retention.ms?"],
    );
}

#[test]
fn topic_names_follow_kafkas_rule() {
    check_topic("{clusterRef: {name: shop}}", &[]);
    check_topic(
        "{clusterRef: {name: shop}, topicName: a/b}",
        &["spec.topicName: character '/' in \"a/b\": only letters, digits, '.', '_' and '-'"],
    );
    check_topic(
        "{clusterRef: {name: shop}, topicName: __consumer_offsets}",
        &[
            "spec.topicName: \"__consumer_offsets\" begins with '__': another name: those belong to Kafka itself",
        ],
    );
    check_topic(
        "{clusterRef: {name: shop}, partitions: 0}",
        &["spec.partitions: 0 is out of range: 1 to 10000"],
    );
}
