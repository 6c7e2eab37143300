//! DescribeCluster (key 60): which brokers are there, fenced ones too if asked (KIP-1073)?

use types::ErrorCode;
use wire::messages::describe_cluster_response::DescribeClusterBroker;
use wire::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::authorized;
use crate::kafka::context::RequestContext;

/// The endpoint type of brokers; 2 is that of controllers, which have no Kafka listener here.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(in crate::kafka) async fn handle(
    cx: RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if cx.version >= 1 && request.endpoint_type != BROKERS {
        return wrong_endpoint(&cx, request.endpoint_type);
    }
    let image = cx.image();
    let with_fenced = cx.version >= 2 && request.include_fenced_brokers;
    let brokers = image
        .brokers()
        .filter(|broker| with_fenced || !broker.fenced)
        .filter_map(|broker| {
            let endpoint = cx.endpoint(broker)?;
            Some(DescribeClusterBroker {
                broker_id: endpoint.node_id.0,
                host: endpoint.host,
                port: endpoint.port,
                rack: endpoint.rack,
                is_fenced: broker.fenced && cx.version >= 2,
                ..DescribeClusterBroker::default()
            })
        })
        .collect();
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: cx.broker.cluster_id.to_string(),
        // Any broker forwards what a controller has to decide; this one is surely reachable.
        controller_id: cx.broker.node_id.0,
        brokers,
        cluster_authorized_operations: authorized::cluster(
            request.include_cluster_authorized_operations,
        ),
        ..DescribeClusterResponse::default()
    }
}

fn wrong_endpoint(cx: &RequestContext, endpoint_type: i8) -> DescribeClusterResponse {
    let (error, message) = if endpoint_type == CONTROLLERS {
        (
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )
    } else {
        (
            ErrorCode::UnsupportedEndpointType,
            "Unsupported endpoint type",
        )
    };
    DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(message.to_owned()),
        endpoint_type: BROKERS,
        cluster_id: cx.broker.cluster_id.to_string(),
        ..DescribeClusterResponse::default()
    }
}
