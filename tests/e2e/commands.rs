//! Do the small commands do what their help says, alone and beside a running `up`?

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tests::cluster::{Cluster, DownWhenDropped, await_some, await_true};
use tests::{root, tidemark};

fn run(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(tidemark())
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).expect("one JSON document")
}

#[test]
fn another_shell_in_the_same_folder_needs_no_arguments() {
    let home = tempfile::tempdir().unwrap();
    let _down = DownWhenDropped(home.path());
    let example = root().join("examples/single-node");
    let up = run(
        home.path(),
        &[
            "up",
            example.to_str().unwrap(),
            "--detach",
            "--address-base",
            "127.0.12.0",
        ],
        "",
    );
    let printed = stdout(&up);
    assert!(
        printed.contains("1/1 brokers ready   bootstrap 127.0.12.1:9092")
            && printed.contains("data in .tidemark · `tidemark down` stops it, data stays"),
        "{printed}"
    );
    let status = stdout(&run(home.path(), &["status"], ""));
    assert!(
        status.contains("solo") && status.contains("Ready"),
        "{status}"
    );
    let produced = run(home.path(), &["produce", "scratch"], "one\ntwo\n");
    assert!(stderr(&produced).contains("2 records acknowledged"));
    let consume = ["consume", "scratch", "--from-beginning", "-n", "2"];
    assert_eq!(stdout(&run(home.path(), &consume, "")), "one\ntwo\n");
    let down = run(home.path(), &["down", "--delete-data"], "");
    assert!(stderr(&down).contains("deleted"), "{}", stderr(&down));
    assert!(!home.path().join(".tidemark").exists());
    let status = run(home.path(), &["status"], "");
    assert_eq!(status.status.code(), Some(1));
    assert!(
        stderr(&status)
            .contains("no `tidemark up` runs on .tidemark: start one with `tidemark up DIR`"),
        "{}",
        stderr(&status)
    );
}

#[test]
fn json_is_one_document_for_programs() {
    let cluster = Cluster::prepare("examples/single-node");
    let up = cluster.try_start_with(&["-o", "json"]);
    let lines: Vec<Value> = stdout(&up)
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    let last = lines.last().expect("a line");
    assert_eq!(last["ready"], true, "{last}");
    assert_eq!(last["objects"][0]["kind"], "KafkaCluster", "{last}");
    let produced = cluster.command_with_input(&["produce", "scratch", "-K", ":"], "k:one\nk:two\n");
    assert!(produced.status.success(), "{}", stderr(&produced));
    let consumed = cluster.command(&[
        "consume",
        "scratch",
        "--group",
        "readers",
        "--from-beginning",
        "-n",
        "2",
        "-v",
    ]);
    let consumed = stdout(&consumed);
    assert!(consumed.contains("\t0\tk\tone\n"), "{consumed:?}");
    let topics = json(&cluster.command(&["topics", "-o", "json"]));
    assert_eq!(topics[0]["topic"], "scratch", "{topics}");
    let groups = json(&cluster.command(&["groups", "-o", "json"]));
    assert_eq!(groups[0]["group"], "readers", "{groups}");
    let group = json(&cluster.command(&["groups", "readers", "-o", "json"]));
    let offsets = group["offsets"].as_array().expect("offsets");
    let sum = |field: &str| -> i64 { offsets.iter().filter_map(|o| o[field].as_i64()).sum() };
    assert_eq!((sum("committed"), sum("lag")), (2, 0), "{group}");
    let status = json(&cluster.command(&["status", "-o", "json"]));
    assert_eq!(status["objects"][1]["name"], "scratch", "{status}");
    let table = stdout(&cluster.command(&["groups", "readers"]));
    assert!(
        table.starts_with("readers: ") && table.contains("COMMITTED"),
        "{table}"
    );
}

#[test]
fn what_is_not_ready_in_time_is_told_with_its_reason_and_goes_on() {
    let cluster = Cluster::prepare("examples/single-node");
    let topic = cluster.manifests().join("topic.yaml");
    let text = std::fs::read_to_string(&topic).unwrap();
    std::fs::write(&topic, text.replace("name: solo", "name: sola")).unwrap();
    let up = cluster.try_start_with(&["--timeout", "3s"]);
    assert_eq!(up.status.code(), Some(1));
    let told = stderr(&up);
    assert!(
        told.contains("KafkaTopic scratch is ") && told.contains("sola"),
        "{told}"
    );
    assert!(
        told.contains(
            "it goes on in the background: `tidemark status`, `tidemark logs`, `tidemark down`"
        ),
        "{told}"
    );
    // A reference cannot be changed: the object is made anew.
    std::fs::remove_file(&topic).unwrap();
    await_true("the object is gone", || {
        cluster
            .status()
            .is_some_and(|status| !status["objects"].to_string().contains("scratch"))
    });
    std::fs::write(&topic, text).unwrap();
    cluster.await_ready();
}

#[test]
fn logs_are_followed_while_pods_come_and_go() {
    let cluster = Cluster::up("examples/quickstart");
    let file = cluster.scratch().join("followed.txt");
    let mut follow = Command::new(tidemark())
        .args(["logs", "-f", "--data-dir"])
        .arg(cluster.data_dir())
        .stdout(std::fs::File::create(&file).unwrap())
        .spawn()
        .expect("the binary runs");
    let followed = || std::fs::read_to_string(&file).unwrap_or_default();
    let starts = |pod: &str| {
        followed()
            .lines()
            .filter(|line| {
                line.starts_with(pod) && line.contains(" started") && line.contains("cluster=")
            })
            .count()
    };
    await_true("what was there is printed, by pod", || {
        starts("shop-main-0") == 1 && starts("shop-main-2") == 1
    });
    cluster.signal("shop-main-0", "KILL");
    await_true("the second start is printed as it comes", || {
        starts("shop-main-0") == 2
    });
    // A pod that did not exist when following began.
    let shop = cluster.manifests().join("shop.yaml");
    let text = std::fs::read_to_string(&shop).unwrap();
    let pool = "  - name: more\n    roles: [broker]\n    replicas: 1\n    storage:\n      size: 1Gi\n  listeners:";
    std::fs::write(&shop, text.replace("  listeners:", pool)).unwrap();
    await_true("a new pod's log is followed too", || {
        starts("shop-more-0") == 1
    });
    follow.kill().unwrap();
    follow.wait().unwrap();
    let one = stdout(&cluster.command(&["logs", "shop-main-1"]));
    assert!(
        one.contains("started") && !one.contains("shop-main-1  "),
        "{one}"
    );
    let none = cluster.command(&["logs", "shop-main-9"]);
    assert!(
        stderr(&none)
            .contains("no log of a pod \"shop-main-9\": there are shop-main-0, shop-main-1"),
        "{}",
        stderr(&none)
    );
}

#[test]
fn client_commands_reach_any_kafka_by_its_address_and_a_properties_file() {
    let cluster = Cluster::up("examples/single-node");
    let bootstrap = cluster.bootstrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let produce = ["produce", "scratch", "--bootstrap-server", &bootstrap];
    let produced = run(elsewhere.path(), &produce, "one\ntwo\n");
    assert!(stderr(&produced).contains("2 records acknowledged"));
    let properties = elsewhere.path().join("client.properties");
    let file = properties.to_str().unwrap();
    std::fs::write(
        &properties,
        format!("bootstrap.servers={bootstrap}\nclient.id=me\nkey.serializer=x\n"),
    )
    .unwrap();
    let consume = [
        "consume",
        "scratch",
        "--from-beginning",
        "-n",
        "2",
        "--command-config",
        file,
    ];
    let consumed = run(elsewhere.path(), &consume, "");
    assert_eq!(stdout(&consumed), "one\ntwo\n");
    assert!(
        stderr(&consumed).contains("client.properties:3: key.serializer has no effect here"),
        "{}",
        stderr(&consumed)
    );
    std::fs::write(&properties, "security.protocol=SSL\n").unwrap();
    let listed = run(
        elsewhere.path(),
        &["topics", "-b", &bootstrap, "--command-config", file],
        "",
    );
    assert_eq!(listed.status.code(), Some(1));
    assert!(
        stderr(&listed).contains(
            "client.properties:1: security.protocol=SSL: this version speaks PLAINTEXT only"
        ),
        "{}",
        stderr(&listed)
    );
    let nobody = run(elsewhere.path(), &["topics"], "");
    assert!(
        stderr(&nobody).contains("or give --bootstrap-server"),
        "{}",
        stderr(&nobody)
    );
}

#[test]
fn a_terminal_shows_what_is_wrong_in_red_and_the_rest_as_it_is() {
    let cluster = Cluster::prepare("examples/single-node");
    let topic = cluster.manifests().join("topic.yaml");
    let text = std::fs::read_to_string(&topic).unwrap();
    std::fs::write(
        &topic,
        text.replace("deletionPolicy: Delete", "partitons: 3"),
    )
    .unwrap();
    // `script` gives the command a terminal of its own.
    let shown = cluster.scratch().join("terminal.txt");
    let command = format!(
        "{} up {} --data-dir {} --address-base 127.0.13.0",
        tidemark().display(),
        cluster.manifests().display(),
        cluster.data_dir().display()
    );
    let mut terminal = Command::new("script")
        .args(["-q", "-f", "-c", &command])
        .arg(&shown)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("script runs");
    let on_screen = || {
        let bytes = std::fs::read(&shown).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    await_true("the mistake is red and says what would be right", || {
        on_screen()
            .contains("\x1b[31m! topic.yaml:10: unknown field spec.partitons: did you mean partitions?\x1b[0m")
    });
    await_true("the cluster is shown beside it", || {
        on_screen().contains("1/1 brokers ready")
    });
    std::fs::write(&topic, text).unwrap();
    let last = await_some("the table is drawn anew without the mistake", || {
        let screen = on_screen();
        let (_, last) = screen.rsplit_once("\x1b[J")?;
        last.contains("ready in").then(|| last.to_owned())
    });
    assert!(!last.contains("\x1b[31m"), "{last:?}");
    let pid = cluster.status().expect("a status")["pid"].to_string();
    let stopped = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(stopped.success());
    assert!(terminal.wait().unwrap().success());
}
