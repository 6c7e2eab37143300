//! Environment, files, names, probes over the network, and what is said about what is not done.

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::node::fixture::*;

#[tokio::test]
async fn a_container_gets_its_environment_files_and_rewritten_paths() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    let secrets: Api<Secret> = Api::default_namespaced(stack.client.clone());
    secrets
        .create(
            &post(),
            &typed(json!({"metadata": {"name": "keys"}, "stringData": {"password": "s3cret"}})),
        )
        .await
        .expect("secret");
    stack
        .config_maps()
        .create(
            &post(),
            &typed(json!({"metadata": {"name": "conf"}, "data": {"LEVEL": "info", "b": "x"}})),
        )
        .await
        .expect("map");
    let script = "echo ip=$IP pass=$PASS level=$LEVEL expanded=$BOTH arg=$1; cat $2; cat $FILE; echo mounts=$TIDEMARK_MOUNTS; exec cat";
    let mut pod = shell_pod(
        "p",
        script,
        json!({
            "args": ["sh0", "$(IP):9092", "/etc/conf/level.txt"],
            "envFrom": [{"configMapRef": {"name": "conf"}}],
            "env": [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
                {"name": "BOTH", "value": "$(PASS)-$$(IP)-$(NONE)"},
                {"name": "FILE", "value": "/etc/keys/password"},
                {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}},
            ],
            "volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}, {"name": "keys", "mountPath": "/etc/keys"}],
        }),
    );
    pod.spec.as_mut().expect("spec").volumes = Some(typed(json!([
        {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "LEVEL", "path": "level.txt"}]}},
        {"name": "keys", "secret": {"secretName": "keys"}},
    ])));
    stack.pods().create(&post(), &pod).await.expect("pod");
    let ip = ready_pod(&stack.pods(), "p")
        .await
        .status
        .and_then(|s| s.pod_ip)
        .expect("ip");
    let log = eventually("everything is printed", || async {
        Some(stack.log("p")).filter(|l| l.contains("mounts=") && l.ends_with('\n'))
    })
    .await;
    let want =
        format!("ip={ip} pass=s3cret level=info expanded=s3cret-$(IP)-$(NONE) arg={ip}:9092\n");
    assert!(log.starts_with(&want), "{log:?} should start with {want:?}");
    assert!(log.contains("infos3cretmounts=/etc/"), "{log}");
    stack.stop().await;
}

#[tokio::test]
async fn a_pod_waits_for_what_it_refers_to_and_says_so() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    let mut pod = shell_pod(
        "p",
        SLEEP,
        json!({"volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}]}),
    );
    pod.spec.as_mut().expect("spec").volumes = Some(typed(
        json!([{"name": "conf", "configMap": {"name": "late"}}]),
    ));
    stack.pods().create(&post(), &pod).await.expect("pod");
    eventually("it says what is missing", || async {
        let state = stack
            .pods()
            .get("p")
            .await
            .ok()?
            .status?
            .container_statuses?[0]
            .state
            .clone()?
            .waiting?;
        (state.message.as_deref() == Some("configmap \"late\" not found")).then_some(())
    })
    .await;
    eventually("and in an event", || async {
        let events = stack.events("p").await;
        events
            .iter()
            .any(|(r, n)| r == "CreateContainerConfigError" && n.contains("late"))
            .then_some(())
    })
    .await;
    stack
        .config_maps()
        .create(
            &post(),
            &typed(json!({"metadata": {"name": "late"}, "data": {"k": "v"}})),
        )
        .await
        .expect("map");
    ready_pod(&stack.pods(), "p").await;
    stack.stop().await;
}

#[tokio::test]
async fn what_is_not_enforced_is_said_in_one_event() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    let pod = shell_pod(
        "p",
        SLEEP,
        json!({"resources": {"limits": {"memory": "1Gi"}}, "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}),
    );
    stack.pods().create(&post(), &pod).await.expect("pod");
    ready_pod(&stack.pods(), "p").await;
    let events = stack.events("p").await;
    let note = &events
        .iter()
        .find(|(reason, _)| reason == "NotEnforced")
        .expect("an event")
        .1;
    assert!(
        note.contains("resource limits") && note.contains("lifecycle hooks"),
        "{note}"
    );
    stack.stop().await;
}

#[tokio::test]
async fn network_probes_gate_readiness_and_services_name_only_ready_pods() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    let services: Api<Service> = Api::default_namespaced(stack.client.clone());
    let service = json!({"metadata": {"name": "front"}, "spec": {"selector": {"app": "p"}, "ports": [{"port": 80}]}});
    services
        .create(&post(), &typed(service))
        .await
        .expect("service");
    let probe = json!({"ports": [{"name": "web", "containerPort": 8099}],
        "startupProbe": {"tcpSocket": {"port": 8099}, "initialDelaySeconds": 30, "periodSeconds": 60},
        "readinessProbe": {"httpGet": {"port": "web", "path": "/readyz"}, "periodSeconds": 60}});
    stack
        .pods()
        .create(&post(), &shell_pod("p", SLEEP, probe))
        .await
        .expect("pod");
    let ip = eventually("it has an address", || async {
        stack.pods().get("p").await.ok()?.status?.pod_ip
    })
    .await;
    assert!(!is_ready(&stack.pods().get("p").await.expect("get")));
    assert!(
        stack.resolver.lookup("front.default.svc", 80).is_empty(),
        "nobody is ready"
    );
    // The test itself answers on the pod's address, first with 503.
    let listener = tokio::net::TcpListener::bind(format!("{ip}:8099"))
        .await
        .expect("bind");
    let server = tokio::spawn(async move {
        let mut served = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0_u8; 512];
            let count = stream.read(&mut request).await.unwrap_or(0);
            if count > 0 {
                served += 1;
                let code = if served < 4 { "503 Not Yet" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {code}\r\nContent-Length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    });
    // Well before the probes' own periods: the first success is looked for eagerly.
    ready_pod(&stack.pods(), "p").await;
    let address: std::net::SocketAddr = format!("{ip}:80").parse().expect("an address");
    eventually("the service names it", || async {
        (stack.resolver.lookup("front.default.svc", 80) == [address]).then_some(())
    })
    .await;
    server.abort();
    stack.stop().await;
}

#[tokio::test]
async fn mounted_files_follow_their_config_map_at_once() {
    let directory = tempfile::tempdir().expect("tempdir");
    let stack = Stack::start(directory.path(), block()).await;
    stack
        .config_maps()
        .create(
            &post(),
            &typed(json!({"metadata": {"name": "conf"}, "data": {"k": "one\n"}})),
        )
        .await
        .expect("map");
    let mut pod = shell_pod(
        "p",
        "cat /etc/conf/k; exec cat",
        json!({"volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}]}),
    );
    pod.spec.as_mut().expect("spec").volumes = Some(typed(
        json!([{"name": "conf", "configMap": {"name": "conf"}}]),
    ));
    stack.pods().create(&post(), &pod).await.expect("pod");
    let first = ready_pod(&stack.pods(), "p").await;
    eventually("one", || async {
        stack.log("p").contains("one").then_some(())
    })
    .await;
    stack
        .config_maps()
        .patch(
            "conf",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"k": "two\n"}})),
        )
        .await
        .expect("patch");
    let pid =
        rustix::process::Pid::from_raw(i32::try_from(pid(&first)).expect("pid")).expect("pid");
    let patched = std::time::Instant::now();
    let file = directory.path().join("pods/default_p/volumes/conf/k");
    eventually("the file is refreshed", || async {
        (std::fs::read_to_string(&file).ok()? == "two\n").then_some(())
    })
    .await;
    assert!(
        patched.elapsed() < std::time::Duration::from_secs(5),
        "the change was only found by housekeeping, after {:?}",
        patched.elapsed()
    );
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    eventually("two", || async {
        stack.log("p").contains("two").then_some(())
    })
    .await;
    stack.stop().await;
}
