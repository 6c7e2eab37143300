//! Does the API refuse what is wrong, with the rule that was broken, and take what is right?
//!
//! Every file of `accepted` and `refused` is given to the in-process API, and to a real kube-apiserver (with our CRDs)
//! when `TIDEMARK_ADMIT_KUBECONFIG` names one; the two must say the same. A file holds one object to create, or two versions
//! of one: the second is an update of the first. What is expected stands in its head:
//!
//! - `# says: FIELD: TEXT`, one a broken rule, of a refused file; without a field it is the whole message.
//! - `# has: POINTER JSON`, a value that an accepted object has in the end, such as a default.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use controlplane::{ControlPlane, ControlPlaneConfig};
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};

const GROUP: &str = "/apis/tidemark.dev/v1alpha1";

/// One file.
struct Case {
    name: String,
    accepted: bool,
    versions: Vec<Value>,
    says: Vec<String>,
    has: Vec<(String, Value)>,
}

fn cases() -> Vec<Case> {
    let mut found = Vec::new();
    for folder in ["accepted", "refused"] {
        let path = tests::root().join("tests/admit").join(folder);
        let mut files: Vec<_> = std::fs::read_dir(&path)
            .expect("the folder is there")
            .map(|entry| entry.expect("readable").path())
            .collect();
        files.sort();
        found.extend(files.iter().map(|file| case(file, folder == "accepted")));
    }
    assert!(found.len() >= 60, "only {} files", found.len());
    found
}

fn case(path: &Path, accepted: bool) -> Case {
    let name = path
        .strip_prefix(tests::root().join("tests/admit"))
        .expect("below it")
        .display()
        .to_string();
    let text = std::fs::read_to_string(path).expect("readable");
    let head = |what: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix(what))
            .map(str::to_owned)
            .collect()
    };
    let has = head("# has: ").into_iter().map(|line| {
        let (pointer, value) = line.split_once(' ').expect("POINTER JSON");
        let value = serde_json::from_str(value).expect("JSON");
        (pointer.to_owned(), value)
    });
    let versions = config::yaml::documents(&name, &text);
    let mut says = head("# says: ");
    says.sort();
    Case {
        says,
        has: has.collect(),
        versions: versions
            .iter()
            .map(|document| document.parse().expect("YAML"))
            .collect(),
        name,
        accepted,
    }
}

/// What a server makes of a file.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused { code: u16, says: Vec<String> },
}

async fn send(client: &Client, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let bytes = body.map(|body| body.to_string().into_bytes());
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(bytes.unwrap_or_default()))
        .expect("a request");
    let response = client.send(request).await.expect("the API answers");
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body");
    let body = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
    (code, body)
}

/// The verdict about the last version, and what it became.
async fn judge(client: &Client, case: &Case) -> (Verdict, Value) {
    let first = &case.versions[0];
    let plural = match first["kind"].as_str() {
        Some("KafkaCluster") => "kafkaclusters",
        Some("KafkaTopic") => "kafkatopics",
        other => panic!("{}: {other:?} is none of our kinds", case.name),
    };
    let all = format!("{GROUP}/namespaces/admit/{plural}");
    let how = "fieldManager=admit&fieldValidation=Strict";
    let (code, body) = match case.versions.as_slice() {
        [only] => {
            send(
                client,
                "POST",
                &format!("{all}?{how}&dryRun=All"),
                Some(only),
            )
            .await
        }
        [before, after] => {
            let (code, stored) = send(client, "POST", &format!("{all}?{how}"), Some(before)).await;
            assert_eq!(code, 201, "{}: the version before: {stored}", case.name);
            let one = format!(
                "{all}/{}",
                before["metadata"]["name"].as_str().unwrap_or("")
            );
            let mut after = after.clone();
            after["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
            let answer = send(
                client,
                "PUT",
                &format!("{one}?{how}&dryRun=All"),
                Some(&after),
            )
            .await;
            let (code, gone) = send(client, "DELETE", &one, None).await;
            assert_eq!(code, 200, "{}: {gone}", case.name);
            answer
        }
        other => panic!("{}: {} documents, want one or two", case.name, other.len()),
    };
    if code < 300 {
        return (Verdict::Accepted, body);
    }
    let causes = body["details"]["causes"].as_array();
    let mut says: Vec<String> = match causes {
        Some(causes) => causes.iter().map(cause).collect(),
        None => vec![body["message"].as_str().unwrap_or_default().to_owned()],
    };
    says.sort();
    (Verdict::Refused { code, says }, body)
}

fn cause(cause: &Value) -> String {
    let text = |key: &str| cause[key].as_str().unwrap_or_default();
    format!("{}: {}", text("field"), text("message"))
}

/// What is not as the file says, or nothing.
fn wrong(case: &Case, verdict: &Verdict, body: &Value) -> Option<String> {
    match verdict {
        Verdict::Refused { says, .. } if case.accepted => {
            Some(format!("{} is refused: {says:#?}", case.name))
        }
        Verdict::Refused { says, .. } if *says != case.says => {
            let lines: Vec<String> = says.iter().map(|line| format!("# says: {line}")).collect();
            Some(format!(
                "{} is refused otherwise:\n{}",
                case.name,
                lines.join("\n")
            ))
        }
        Verdict::Refused { .. } => None,
        Verdict::Accepted if !case.accepted => Some(format!("{} is accepted: {body}", case.name)),
        Verdict::Accepted => case.has.iter().find_map(|(pointer, value)| {
            let found = body.pointer(pointer);
            (found != Some(value)).then(|| format!("{}: {pointer} is {found:?}", case.name))
        }),
    }
}

async fn in_process() -> (ControlPlane, Client) {
    let plane = ControlPlane::open(ControlPlaneConfig {
        crds: operator_core::crds(),
        ..ControlPlaneConfig::default()
    })
    .expect("a control plane");
    let client = plane.client();
    make_namespace(&client).await;
    (plane, client)
}

async fn make_namespace(client: &Client) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "admit"}});
    let (code, body) = send(client, "POST", "/api/v1/namespaces", Some(&namespace)).await;
    assert!(code == 201 || code == 409, "{code} {body}");
}

#[tokio::test]
async fn each_file_gets_the_verdict_that_it_names_for_the_reason_that_it_names() {
    let (_plane, client) = in_process().await;
    let mut all = Vec::new();
    for case in cases() {
        assert_eq!(
            case.accepted,
            case.says.is_empty(),
            "{} says why",
            case.name
        );
        let (verdict, body) = judge(&client, &case).await;
        all.extend(wrong(&case, &verdict, &body));
    }
    assert!(all.is_empty(), "{} files:\n{}", all.len(), all.join("\n"));
}

#[tokio::test]
async fn a_real_api_server_says_the_same() {
    let Some(file) = std::env::var_os("TIDEMARK_ADMIT_KUBECONFIG") else {
        tests::skipped(
            "a_real_api_server_says_the_same",
            "TIDEMARK_ADMIT_KUBECONFIG names no kubeconfig (tests/kubernetes/run sets it)",
        );
        return;
    };
    let file = kube::config::Kubeconfig::read_from(file).expect("a kubeconfig");
    let real = Client::try_from(file).expect("a client");
    make_namespace(&real).await;
    let (_plane, ours) = in_process().await;
    let mut all = Vec::new();
    for case in cases() {
        let (theirs, body) = judge(&real, &case).await;
        let (ours, _) = judge(&ours, &case).await;
        all.extend(wrong(&case, &theirs, &body));
        if ours != theirs {
            let name = &case.name;
            all.push(format!(
                "{name}:\n  in process: {ours:?}\n  real:       {theirs:?}"
            ));
        }
    }
    assert!(all.is_empty(), "{} files:\n{}", all.len(), all.join("\n"));
}
