//! Are the in-process API's answers those of a real kube-apiserver?
//!
//! `tests/recorded/exchanges.json` holds what kube-apiserver 1.34 answered to the requests of `exchanges.rs`. Replaying
//! needs no Kubernetes. To record again, point `TIDEMARK_RECORD_KUBECONFIG` at a fresh one and run this test.

mod exchanges;
mod normal;

use std::path::PathBuf;

use exchanges::{Exchange, exchanges};

use crate::api::fixture;
use serde_json::{Value, json};

fn recorded_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/exchanges.json")
}

#[tokio::test]
async fn every_recorded_exchange_is_answered_alike() {
    if let Some(kubeconfig) = std::env::var_os("TIDEMARK_RECORD_KUBECONFIG") {
        record(&PathBuf::from(kubeconfig)).await;
        return;
    }
    let text = std::fs::read_to_string(recorded_file()).expect("the recording");
    let recorded: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let plane = fixture::plane();
    let list = exchanges();
    assert_eq!(
        recorded.len(),
        list.len(),
        "the recording is of other exchanges: record again"
    );
    let mut wrong = Vec::new();
    for (exchange, theirs) in list.iter().zip(recorded) {
        assert_eq!(
            theirs["name"], exchange.name,
            "the recording is of other exchanges: record again"
        );
        let body = exchange.body.clone().map(|body| (exchange.media, body));
        let (code, body) = fixture::call(&plane, exchange.method, &exchange.path, body).await;
        let ours = normal::answer(code, body);
        let theirs = normal::answer(
            u16::try_from(theirs["code"].as_u64().expect("a code")).expect("a code"),
            theirs["body"].clone(),
        );
        if ours != theirs {
            wrong.push(format!(
                "{}\n{}",
                exchange.name,
                normal::difference(&theirs, &ours)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ (- real, + ours):\n{}",
        wrong.len(),
        list.len(),
        wrong.join("\n")
    );
}

async fn record(kubeconfig: &std::path::Path) {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let client = kube::Client::try_from(kubeconfig).expect("a client");
    let crd = serde_json::to_value(fixture::widget_crd()).expect("JSON");
    let create = Exchange::new(
        "crd",
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    )
    .json(crd);
    let (code, body) = send(&client, &create).await;
    assert!(code == 201 || code == 409, "{code} {body}");
    let list = Exchange::new("list", "GET", fixture::WIDGETS);
    while send(&client, &list).await.0 != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mut recorded = Vec::new();
    for exchange in exchanges() {
        let (code, body) = send(&client, &exchange).await;
        recorded.push(json!({"name": exchange.name, "code": code, "body": body}));
    }
    let text = serde_json::to_string_pretty(&recorded).expect("JSON");
    std::fs::write(recorded_file(), text + "\n").expect("write");
}

async fn send(client: &kube::Client, exchange: &Exchange) -> (u16, Value) {
    use http_body_util::BodyExt as _;
    let mut request = http::Request::builder()
        .method(exchange.method)
        .uri(&exchange.path);
    let bytes = exchange
        .body
        .as_ref()
        .map(|body| body.to_string().into_bytes())
        .unwrap_or_default();
    if exchange.body.is_some() {
        request = request.header("content-type", exchange.media);
    }
    let request = request
        .body(kube::client::Body::from(bytes))
        .expect("a request");
    let response = client.send(request).await.expect("the API server answers");
    let code = response.status().as_u16();
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
