//! Does one connection keep requests apart, bounded, and out of harm?

use std::time::Duration;

use bytes::Bytes;
use client::{ClientError, ClientOptions, Connection};
use tokio::io::{AsyncWriteExt, DuplexStream};
use wire::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use wire::messages::{HeartbeatRequest, HeartbeatResponse, ListGroupsRequest};
use wire::{ApiKey, Message, RequestFrame, encode_response};

use crate::fake_broker::{all_versions, answer, read_frame};

fn options() -> ClientOptions {
    ClientOptions {
        max_in_flight: 2,
        max_response_bytes: 1000,
        ..ClientOptions::new("fake:0")
    }
}

async fn next(stream: &mut DuplexStream) -> RequestFrame {
    RequestFrame::parse(read_frame(stream).await.unwrap()).unwrap()
}

/// A connection past its negotiation, and the broker's end of it.
async fn open(options: &ClientOptions) -> (Connection, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    let (connection, theirs) =
        tokio::join!(Connection::open(ours, "fake:0", options), async move {
            let frame = next(&mut theirs).await;
            answer(&mut theirs, &frame, &all_versions()).await;
            theirs
        });
    (connection.unwrap(), theirs)
}

fn heartbeat(group: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.to_owned(),
        ..HeartbeatRequest::default()
    }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (connection, mut broker) = open(&options()).await;
    let first = connection.submit(&heartbeat("a"), 4, LONG).await.unwrap();
    let second = connection.submit(&heartbeat("b"), 4, LONG).await.unwrap();
    let frames = [next(&mut broker).await, next(&mut broker).await];
    let groups = frames
        .each_ref()
        .map(|f| f.decode::<HeartbeatRequest>().unwrap().group_id);
    assert_eq!(groups, ["a", "b"], "requests keep their order");
    for (frame, code) in [(&frames[1], 2), (&frames[0], 1)] {
        answer(
            &mut broker,
            frame,
            &HeartbeatResponse {
                error_code: code,
                ..HeartbeatResponse::default()
            },
        )
        .await;
    }
    assert_eq!(first.wait().await.unwrap().error_code, 1);
    assert_eq!(second.wait().await.unwrap().error_code, 2);
}

#[tokio::test]
async fn no_more_than_max_in_flight_requests_are_without_an_answer() {
    let (connection, mut broker) = open(&options()).await;
    let first = connection.submit(&heartbeat("a"), 4, LONG).await.unwrap();
    let _second = connection.submit(&heartbeat("b"), 4, LONG).await.unwrap();
    assert_eq!(connection.in_flight(), 2);
    let request = heartbeat("c");
    let third = connection.submit(&request, 4, LONG);
    tokio::pin!(third);
    let frame = next(&mut broker).await;
    tokio::select! {
        biased;
        _ = &mut third => panic!("a third request was let through"),
        frame = next(&mut broker) => assert_eq!(frame.decode::<HeartbeatRequest>().unwrap().group_id, "b"),
    }
    answer(&mut broker, &frame, &HeartbeatResponse::default()).await;
    first.wait().await.unwrap();
    let _third = third.await.unwrap();
    assert_eq!(
        next(&mut broker)
            .await
            .decode::<HeartbeatRequest>()
            .unwrap()
            .group_id,
        "c"
    );
}

#[tokio::test]
async fn a_request_without_an_answer_takes_the_connection_down() {
    let (connection, mut broker) = open(&options()).await;
    let waiting = connection.submit(&heartbeat("a"), 4, LONG).await.unwrap();
    let short = connection
        .submit(&heartbeat("b"), 4, Duration::from_millis(20))
        .await
        .unwrap();
    let error = short.wait().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no answer from fake:0 to Heartbeat within 20ms"
    );
    assert!(error.is_retriable());
    let error = waiting.wait().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "connection to fake:0 is closed: no answer to Heartbeat within 20ms"
    );
    assert!(connection.is_closed());
    assert!(matches!(
        connection.send(&heartbeat("c")).await,
        Err(ClientError::Closed { .. })
    ));
    next(&mut broker).await;
    next(&mut broker).await;
    assert_eq!(read_frame(&mut broker).await, None, "the stream ends");
}

/// What the broker sends instead of an answer, and what the client says then.
async fn check_bad_answer(bytes: &[u8], expected: &str) {
    let (connection, mut broker) = open(&options()).await;
    let sent = connection.submit(&heartbeat("a"), 4, LONG).await.unwrap();
    next(&mut broker).await;
    broker.write_all(bytes).await.unwrap();
    drop(broker);
    assert_eq!(sent.wait().await.unwrap_err().to_string(), expected);
    assert!(connection.is_closed());
}

#[tokio::test]
async fn bad_answers_close_the_connection_with_a_reason() {
    let closed = "connection to fake:0 is closed: ";
    check_bad_answer(&[], &format!("{closed}the broker closed it")).await;
    check_bad_answer(
        &[0, 0, 0, 9, 1],
        &format!("{closed}the broker closed it in the middle of an answer"),
    )
    .await;
    check_bad_answer(
        &[0x7f, 0xff, 0xff, 0xff],
        &format!("{closed}an answer of 2147483647 bytes is over the limit of 1000"),
    )
    .await;
    let nobody = "an answer to correlation id 77, which nobody asked";
    check_bad_answer(&[0, 0, 0, 4, 0, 0, 0, 77], &format!("{closed}{nobody}")).await;
}

#[tokio::test]
async fn a_malformed_answer_fails_its_own_request_only() {
    let (connection, mut broker) = open(&options()).await;
    let first = connection.submit(&heartbeat("a"), 4, LONG).await.unwrap();
    let second = connection.submit(&heartbeat("b"), 4, LONG).await.unwrap();
    let frames = [next(&mut broker).await, next(&mut broker).await];
    let good = encode_response(frames[0].correlation_id, 4, &HeartbeatResponse::default()).unwrap();
    let mut cut = good[..good.len() - 2].to_vec();
    let length = u8::try_from(cut.len() - 4).unwrap();
    cut[3] = length;
    broker.write_all(&cut).await.unwrap();
    answer(&mut broker, &frames[1], &HeartbeatResponse::default()).await;
    assert!(matches!(first.wait().await, Err(ClientError::Decode(_))));
    second.wait().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_does_not_know_our_api_versions_is_asked_in_version_0() {
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    let (options, old) = (
        options(),
        ApiVersion {
            api_key: 16,
            min_version: 0,
            max_version: 2,
            ..ApiVersion::default()
        },
    );
    let (connection, versions) = tokio::join!(Connection::open(ours, "old:0", &options), async {
        let first = next(&mut theirs).await;
        // KIP-511: a version 0 body, whatever was asked
        let refused = ApiVersionsResponse {
            error_code: 35,
            ..ApiVersionsResponse::default()
        };
        let bytes: Bytes = encode_response(first.correlation_id, 0, &refused).unwrap();
        theirs.write_all(&bytes).await.unwrap();
        let second = next(&mut theirs).await;
        answer(
            &mut theirs,
            &second,
            &ApiVersionsResponse {
                api_keys: vec![old],
                ..ApiVersionsResponse::default()
            },
        )
        .await;
        [first.version, second.version]
    });
    let connection = connection.unwrap();
    assert_eq!(versions, [*ApiKey::ApiVersions.valid_versions().end(), 0]);
    assert_eq!(
        connection
            .version_of::<ListGroupsRequest>(i16::MAX)
            .unwrap(),
        2,
        "the newest of both"
    );
    let error = connection
        .version_of::<HeartbeatRequest>(i16::MAX)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "old:0 serves Heartbeat not at all, this client needs one of 0-4"
    );
    assert_eq!(*HeartbeatRequest::VERSIONS.end(), 4);
}

#[tokio::test]
async fn the_last_clone_dropped_closes_the_stream() {
    let (connection, mut broker) = open(&options()).await;
    let clone = connection.clone();
    drop(connection);
    clone.send_unanswered(&heartbeat("a"), 4).await.unwrap();
    next(&mut broker).await;
    drop(clone);
    assert_eq!(read_frame(&mut broker).await, None);
}
