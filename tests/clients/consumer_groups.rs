//! Do stock clients share a topic by the consumer protocol (KIP-848), take over from each other and come back?

use std::process::Command;

use tests::client_programs::{kafka_jars, python};
use tests::cluster::Cluster;
use tests::skipped;

const TOPIC: &str = "shared";

fn librdkafka() -> Option<Command> {
    let mut command = Command::new(python()?);
    command.arg(tests::root().join("tests/clients/python/consumer_protocol.py"));
    Some(command)
}

fn java() -> Option<Command> {
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(format!("{}/*", kafka_jars()?.display()))
        .arg(tests::root().join("tests/clients/java/ConsumerProtocol.java"));
    Some(command)
}

#[test]
fn members_of_the_consumer_protocol_share_a_topic_and_take_over_from_each_other() {
    let cluster = Cluster::prepare("examples/quickstart");
    let manifest = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: {TOPIC}\nspec:\n  \
         clusterRef:\n    name: shop\n  partitions: 6\n  replicationFactor: 3\n"
    );
    std::fs::write(cluster.manifests().join("shared.yaml"), manifest).unwrap();
    cluster.start();
    for (name, program) in [("librdkafka", librdkafka()), ("java", java())] {
        let Some(mut program) = program else {
            skipped(
                &format!("{name} in a group of the consumer protocol"),
                "run tests/platform/setup",
            );
            continue;
        };
        let group = format!("group-{name}");
        let output = program
            .args([cluster.bootstrap().as_str(), TOPIC, &group])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{name}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
