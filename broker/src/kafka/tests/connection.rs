//! Frames, order and limits of one connection, by raw bytes.

use std::time::Duration;

use super::fake::{MAX_FRAME, Server, request};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const METADATA: i16 = 3;
const HEARTBEAT: i16 = 12;

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests_even_if_later_ones_end_first() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    client
        .send(&[request(PRODUCE, 1), request(PRODUCE, 2)].concat())
        .await;
    server.fake.release(2).await;
    server.fake.release(1).await;
    assert_eq!(client.answer().await, 1);
    assert_eq!(client.answer().await, 2);
    server.stopped().await;
}

#[tokio::test]
async fn what_may_not_overlap_waits_for_everything_before_it() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    let frames = [
        request(PRODUCE, 1),
        request(HEARTBEAT, 2),
        request(PRODUCE, 3),
    ];
    client.send(&frames.concat()).await;
    server.fake.until_started(1).await;
    assert_eq!(*server.fake.started.lock(), [1]);
    server.fake.release(1).await;
    server.fake.release(3).await;
    assert_eq!(*server.fake.started.lock(), [1, 2, 3]);
    for id in [1, 2, 3] {
        assert_eq!(client.answer().await, id);
    }
}

#[tokio::test]
async fn a_frame_may_come_byte_by_byte() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    for byte in request(HEARTBEAT, 7) {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await, 7);
}

#[tokio::test]
async fn a_silent_answer_leaves_the_order_of_the_others() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    client
        .send(&[request(METADATA, 1), request(HEARTBEAT, 2)].concat())
        .await;
    assert_eq!(client.answer().await, 2);
}

#[tokio::test]
async fn frames_that_are_none_close_only_their_own_connection() {
    let server = Server::start(10, None).await;
    let mut other = server.connect().await;
    let too_long = i32::try_from(MAX_FRAME + 1).unwrap();
    let cases: [(&str, Vec<u8>); 5] = [
        ("a frame above the limit", too_long.to_be_bytes().to_vec()),
        ("the largest length", i32::MAX.to_be_bytes().to_vec()),
        ("a negative length", (-1i32).to_be_bytes().to_vec()),
        ("an empty frame", 0i32.to_be_bytes().to_vec()),
        ("an unknown API", request(9999, 1)),
    ];
    for (name, bytes) in cases {
        let mut client = server.connect().await;
        client.send(&bytes).await;
        client.closed().await;
        other.send(&request(HEARTBEAT, 5)).await;
        assert_eq!(other.answer().await, 5, "after {name}");
    }
}

#[tokio::test]
async fn a_frame_that_stalls_is_given_up() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    client.send(&request(HEARTBEAT, 1)[..6]).await;
    client.closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_one_that_waits_for_its_answer() {
    let server = Server::start(10, Some(Duration::from_millis(100))).await;
    let idle = server.connect().await;
    let mut waiting = server.connect().await;
    waiting.send(&request(FETCH, 1)).await;
    server.fake.until_started(1).await;
    idle.closed().await;
    server.fake.release(1).await;
    assert_eq!(waiting.answer().await, 1);
}

#[tokio::test]
async fn no_more_requests_are_read_than_may_be_in_flight() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    let frames: Vec<u8> = (1..=6).flat_map(|id| request(PRODUCE, id)).collect();
    client.send(&frames).await;
    server.fake.until_started(4).await;
    assert_eq!(server.fake.started.lock().len(), 4);
    for id in 1..=6 {
        server.fake.release(id).await;
        assert_eq!(client.answer().await, id);
    }
}

#[tokio::test]
async fn one_address_gets_only_so_many_connections() {
    let server = Server::start(1, None).await;
    let mut first = server.connect().await;
    first.send(&request(HEARTBEAT, 1)).await;
    assert_eq!(first.answer().await, 1);
    server.connect().await.closed().await;
    assert_eq!(server.connections.count(), 1);
}

#[tokio::test]
async fn requests_read_before_the_client_left_are_still_carried_out() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    client
        .send(&[request(METADATA, 1), request(METADATA, 2)].concat())
        .await;
    drop(client);
    server.fake.until_started(2).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_stopping_listener_lets_running_requests_end() {
    let server = Server::start(10, None).await;
    let mut client = server.connect().await;
    client.send(&request(FETCH, 1)).await;
    server.fake.until_started(1).await;
    server.stop.cancel();
    server.fake.release(1).await;
    assert_eq!(client.answer().await, 1);
    server.stopped().await;
}
