//! By which names are the nodes reached?

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Owner;
use super::meta::child;
use crate::names;
use crate::validate::ValidatedCluster;

/// Gives every pod a host name, Ready or not: readiness needs the quorum, and the quorum needs these names.
pub(super) fn headless(cluster: &ValidatedCluster, owner: &Owner) -> Service {
    let mut ports = listener_ports(cluster);
    ports.push(port("rpc", names::RPC_PORT));
    ports.push(port("http", names::HTTP_PORT));
    let selector = [(names::CLUSTER_LABEL.to_owned(), cluster.name.clone())].into();
    Service {
        metadata: child(
            cluster,
            owner,
            names::headless_service(&cluster.name),
            names::labels(&cluster.name),
        ),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// One stable address in front of the Ready brokers, for a client's first connection.
pub(super) fn bootstrap(cluster: &ValidatedCluster, owner: &Owner) -> Service {
    let selector = [
        (names::CLUSTER_LABEL.to_owned(), cluster.name.clone()),
        (names::BROKER_LABEL.to_owned(), "true".to_owned()),
    ];
    Service {
        metadata: child(
            cluster,
            owner,
            names::bootstrap_service(&cluster.name),
            names::labels(&cluster.name),
        ),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(selector.into()),
            ports: Some(listener_ports(cluster)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn listener_ports(cluster: &ValidatedCluster) -> Vec<ServicePort> {
    cluster
        .listeners
        .iter()
        .map(|listener| port(&listener.name, listener.port))
        .collect()
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}
