//! Are configuration changes checked and applied as Kafka does it?

use types::ErrorCode;

use super::*;

fn orders() -> ConfigResource {
    ConfigResource::Topic("orders".into())
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.create_on("orders", &[0]);
    cluster
}

#[test]
fn values_are_set_changed_and_deleted_one_by_one() {
    let mut cluster = cluster();
    cluster
        .set(orders(), "retention.ms", "5")
        .expect("accepted");
    cluster
        .set(orders(), "min.insync.replicas", "2")
        .expect("accepted");
    let offset = cluster.committed.offset();
    cluster
        .set(orders(), "retention.ms", "5")
        .expect("accepted");
    assert_eq!(
        cluster.committed.offset(),
        offset,
        "nothing changed, nothing is recorded"
    );
    cluster
        .change(orders(), ConfigOp::Delete, "retention.ms", None)
        .expect("accepted");
    let left: Vec<_> = cluster.committed.topic_config("orders").iter().collect();
    assert_eq!(left, [(&"min.insync.replicas".to_owned(), &"2".to_owned())]);
}

#[test]
fn lists_are_appended_to_and_subtracted_from() {
    let mut cluster = cluster();
    let policy =
        |cluster: &Cluster| cluster.committed.topic_config("orders")["cleanup.policy"].clone();
    cluster
        .change(orders(), ConfigOp::Append, "cleanup.policy", Some("delete"))
        .expect("the default has it already");
    assert_eq!(policy(&cluster), "delete");
    cluster
        .change(
            orders(),
            ConfigOp::Append,
            "cleanup.policy",
            Some("compact"),
        )
        .expect("both may be");
    assert_eq!(policy(&cluster), "delete,compact");
    cluster
        .change(
            orders(),
            ConfigOp::Subtract,
            "cleanup.policy",
            Some("delete"),
        )
        .expect("one is left");
    assert_refused(
        cluster.change(
            orders(),
            ConfigOp::Subtract,
            "cleanup.policy",
            Some("compact"),
        ),
        ErrorCode::InvalidConfig,
        "must not be empty",
    );
    assert_refused(
        cluster.change(orders(), ConfigOp::Append, "retention.ms", Some("5")),
        ErrorCode::InvalidConfig,
        "its type is not LIST",
    );
}

#[test]
fn bad_changes_are_refused_and_leave_nothing() {
    use ErrorCode as E;
    let mut cluster = cluster();
    let broker = |id| ConfigResource::Broker(NodeId(id));
    let before = cluster.committed.clone();
    for (resource, key, value, code, says) in [
        (
            orders(),
            "retention.mss",
            "1",
            E::InvalidConfig,
            "did you mean retention.ms?",
        ),
        (
            orders(),
            "min.insync.replicas",
            "0",
            E::InvalidConfig,
            "Value must be at least 1",
        ),
        (
            ConfigResource::Topic("absent".into()),
            "retention.ms",
            "1",
            E::UnknownTopicOrPartition,
            "The topic 'absent' does not exist.",
        ),
        (
            broker(7),
            "log.retention.ms",
            "1",
            E::BrokerIdNotRegistered,
            "No broker with id 7 found.",
        ),
        (
            broker(0),
            "log.retention.hours",
            "1",
            E::InvalidConfig,
            "Cannot update these configs dynamically",
        ),
        (
            ConfigResource::DefaultBroker,
            "num.io.threads",
            "1",
            E::InvalidConfig,
            "refused",
        ),
    ] {
        assert_refused(cluster.set(resource, key, value), code, says);
    }
    assert_refused(
        cluster.change(orders(), ConfigOp::Set, "retention.ms", None),
        E::InvalidRequest,
        "Null value not supported",
    );
    assert_eq!(cluster.committed, before);
}

#[test]
fn one_bad_key_keeps_its_whole_resource_as_it_was() {
    let mut cluster = cluster();
    let change = |name: &str, value: &str| ConfigChange {
        name: name.to_owned(),
        op: ConfigOp::Set,
        value: Some(value.to_owned()),
    };
    for second in [change("segment.ms", "x"), change("retention.ms", "6")] {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![(orders(), vec![change("retention.ms", "5"), second])],
            validate_only: false,
        };
        let ControllerResponse::IncrementalAlterConfigs(results) =
            cluster.ask(&ControllerRequest::IncrementalAlterConfigs(request))
        else {
            panic!("another response");
        };
        assert!(results[0].result.is_err());
    }
    assert!(cluster.committed.topic_config("orders").is_empty());
}

#[test]
fn the_old_request_replaces_everything_there_was() {
    let mut cluster = cluster();
    cluster
        .set(orders(), "retention.ms", "5")
        .expect("accepted");
    for validate_only in [true, false] {
        let request = AlterConfigsRequest {
            resources: vec![(
                orders(),
                vec![("segment.ms".to_owned(), Some("7".to_owned()))],
            )],
            validate_only,
        };
        let answer = cluster.ask(&ControllerRequest::AlterConfigs(request));
        let ControllerResponse::AlterConfigs(results) = answer else {
            panic!("another response");
        };
        assert_eq!(results[0].result, Ok(()));
        let key = if validate_only {
            "retention.ms"
        } else {
            "segment.ms"
        };
        let left: Vec<_> = cluster.committed.topic_config("orders").keys().collect();
        assert_eq!(left, [key]);
    }
}

#[test]
fn dynamic_broker_values_are_the_defaults_of_topics() {
    let mut cluster = cluster();
    cluster
        .set(ConfigResource::DefaultBroker, "log.retention.ms", "50")
        .expect("accepted");
    cluster
        .set(ConfigResource::Broker(NodeId(0)), "log.retention.ms", "60")
        .expect("accepted");
    let file = ConfigMap::new();
    let retention = |node| {
        cluster
            .committed
            .topic_settings("orders", NodeId(node), &file)
            .expect("valid")
            .retention_ms
    };
    assert_eq!((retention(0), retention(1)), (60, 50));
}
