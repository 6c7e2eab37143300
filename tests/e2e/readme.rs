//! Do the commands of README.md work as a newcomer types them?

use std::path::Path;
use std::process::Command;

use tests::cluster::DownWhenDropped;

/// How the README builds and runs; the tests use the binary that is built already.
const BUILD_AND_RUN: &str = "cargo run --release --bin tidemark --";
/// Those that `.ci/run` runs as they stand: a stage of their own.
const STAGES: &[&str] = &["tests/run", "tests/kubernetes/run"];
/// What needs a Kubernetes: the start of each line, and the script that runs it there.
const ON_KUBERNETES: &[(&str, &str, &str)] = &[
    (
        "helm install ",
        "tests/kubernetes/chart.sh",
        "helm install ",
    ),
    (
        "kubectl apply -f examples/quickstart",
        "tests/kubernetes/chart.sh",
        "kubectl apply -f examples/quickstart",
    ),
    (
        "kubectl wait --for=condition=Ready kafkacluster/shop kafkatopic/orders",
        "tests/kubernetes/chart.sh",
        "kubectl wait --for=condition=Ready kafkacluster/shop kafkatopic/orders",
    ),
];
/// What needs a container engine; without one it says so and changes nothing.
const ON_KIND: &str = "examples/kind/up.sh";
/// Addresses that no other test's cluster has.
const ADDRESS_BASE: &str = "127.0.11.0";

/// The shell blocks of a document, in order.
fn shell_blocks(document: &str) -> Vec<String> {
    document
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

/// Runs lines in one shell that stops at the first failure; what it printed.
fn shell(folder: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(folder)
        .env("TIDEMARK_ADDRESS_BASE", ADDRESS_BASE)
        .output()
        .expect("a shell runs");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{script}\n{}\n{text}",
        output.status
    );
    text
}

/// Whether all lines of a block are run by a script of [`ON_KUBERNETES`], which is checked.
fn needs_kubernetes(block: &str) -> bool {
    block.lines().all(|line| {
        ON_KUBERNETES
            .iter()
            .filter(|(start, ..)| line.starts_with(start))
            .any(|(_, script, command)| {
                let text = std::fs::read_to_string(tests::root().join(script)).unwrap();
                assert!(text.contains(command), "{script} does not run {command:?}");
                true
            })
    })
}

/// The scripts for kind on a path without docker: they name what is missing and fail.
fn says_what_kind_misses() {
    let output = Command::new("/bin/bash")
        .arg(tests::root().join(ON_KIND))
        .env("PATH", "/nowhere:/usr/bin:/bin")
        .env("DOCKER_HOST", "unix:///nowhere")
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("Missing:") && text.contains("kind"),
        "{}: {text}",
        output.status
    );
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = std::fs::read_to_string(tests::root().join("README.md")).unwrap();
    let ci = std::fs::read_to_string(tests::root().join(".ci/run")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let _down = DownWhenDropped(home.path());
    std::fs::create_dir_all(home.path().join("target/release")).unwrap();
    let binary = home.path().join("target/release/tidemark");
    std::os::unix::fs::symlink(tests::tidemark(), &binary).unwrap();
    std::os::unix::fs::symlink(tests::root().join("examples"), home.path().join("examples"))
        .unwrap();
    let mut printed = String::new();
    for block in shell_blocks(&readme) {
        if STAGES.contains(&block.as_str()) {
            assert!(
                ci.lines()
                    .any(|line| line.starts_with("stage ") && line.ends_with(&format!(" {block}"))),
                ".ci/run has no stage that runs {block}"
            );
            continue;
        }
        if needs_kubernetes(&block) {
            continue;
        }
        if block.starts_with(ON_KIND) {
            says_what_kind_misses();
            continue;
        }
        let script = block.replace(BUILD_AND_RUN, "target/release/tidemark");
        printed += &shell(home.path(), &script);
    }
    let base = ADDRESS_BASE.trim_end_matches('0');
    for expected in [
        format!("3/3 brokers ready   bootstrap {base}1:9092,{base}2:9092,{base}3:9092"),
        "6 partitions, replication factor 3, ISR 18/18".to_owned(),
        "hello\n".to_owned(),
    ] {
        assert!(
            printed.contains(&expected),
            "{expected:?} is not in:\n{printed}"
        );
    }
    assert!(
        home.path().join(".tidemark").is_dir(),
        "data stays in .tidemark after down"
    );
}

#[test]
fn blocks_are_found_and_a_failing_command_is_seen() {
    assert_eq!(
        shell_blocks("a\n```sh\nx\ny\n```\n```\nno\n```\n```sh\nz\n```\n"),
        ["x\ny", "z"]
    );
    let failed = std::panic::catch_unwind(|| shell(Path::new("/"), "false\ntrue"));
    assert!(failed.is_err());
}
