//! Does each client get back exactly what it produced, and does its group go on where it committed after the
//! whole cluster was stopped and started?

use std::collections::BTreeSet;
use std::process::Output;

use tests::client_programs::Client;
use tests::cluster::Cluster;
use tests::skipped;

const RECORDS: u32 = 10_000;
const MORE: u32 = 500;
const CLIENTS: &[Client] = &[
    Client::Kcat,
    Client::Confluent,
    Client::KafkaPython,
    Client::Aiokafka,
    Client::Java,
];

fn topic_of(client: Client) -> String {
    format!("round-trip-{client:?}").to_lowercase()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(
        output.status.success(),
        "{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn assert_exactly(client: Client, got: Vec<String>, first: u32, count: u32) {
    let want: BTreeSet<String> = (first..first + count)
        .map(|n| format!("{client:?}-{n}"))
        .collect();
    assert_eq!(
        got.len(),
        want.len(),
        "{client:?} consumed another number of records than it produced"
    );
    let got: BTreeSet<String> = got.into_iter().collect();
    let missing: Vec<_> = want.difference(&got).take(3).collect();
    let foreign: Vec<_> = got.difference(&want).take(3).collect();
    assert!(
        missing.is_empty() && foreign.is_empty(),
        "{client:?}: missing {missing:?}, foreign {foreign:?}"
    );
}

fn produce_and_consume(
    cluster: &Cluster,
    client: Client,
    first: u32,
    count: u32,
) -> Result<(), String> {
    let (bootstrap, topic) = (cluster.bootstrap(), topic_of(client));
    lines(&client.produce(&bootstrap, &topic, &format!("{client:?}"), first, count)?);
    let got = lines(&client.consume(&bootstrap, &topic, &format!("group-{client:?}"), count)?);
    assert_exactly(client, got, first, count);
    Ok(())
}

#[test]
fn every_client_gets_back_what_it_produced_and_its_group_survives_a_restart_of_the_cluster() {
    let cluster = Cluster::prepare("examples/quickstart");
    for &client in CLIENTS {
        let topic = topic_of(client);
        let manifest = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: KafkaTopic\nmetadata:\n  name: {topic}\nspec:\n  \
             clusterRef:\n    name: shop\n  partitions: 3\n  replicationFactor: 3\n"
        );
        std::fs::write(cluster.manifests().join(format!("{topic}.yaml")), manifest).unwrap();
    }
    cluster.start();
    let mut ran = Vec::new();
    for &client in CLIENTS {
        match produce_and_consume(&cluster, client, 0, RECORDS) {
            Ok(()) => ran.push(client),
            Err(missing) => skipped(&format!("{client:?} round trip"), &missing),
        }
    }
    assert!(
        !ran.is_empty(),
        "no client is installed: run tests/platform/setup"
    );
    cluster.stop();
    cluster.start();
    for client in ran {
        produce_and_consume(&cluster, client, RECORDS, MORE).expect("it ran before");
    }
}
