//! What survives: restarts, a crash at any byte, a second opener, another format.

use controlplane::{ControlPlane, ControlPlaneConfig};
use serde_json::json;

use crate::api::fixture::*;

fn at(directory: &std::path::Path) -> ControlPlaneConfig {
    ControlPlaneConfig {
        data_dir: Some(directory.to_owned()),
        ..config()
    }
}

/// Waits until the lock of a closed control plane is free.
async fn reopen(directory: &std::path::Path) -> ControlPlane {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        match ControlPlane::open(at(directory)) {
            Ok(plane) => return plane,
            Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn objects_and_revisions_survive_a_restart() {
    let directory = tempfile::tempdir().expect("tempdir");
    let plane = reopen(directory.path()).await;
    let (_, kept) = post(&plane, WIDGETS, widget("kept", json!({"size": 3}))).await;
    post(&plane, WIDGETS, widget("gone", json!({"size": 3}))).await;
    delete(&plane, &format!("{WIDGETS}/gone")).await;
    let revision = plane.revision();
    drop(plane);
    let plane = reopen(directory.path()).await;
    assert_eq!(get(&plane, &format!("{WIDGETS}/kept")).await.1, kept);
    assert_eq!(get(&plane, &format!("{WIDGETS}/gone")).await.0, 404);
    assert_eq!(plane.revision(), revision);
}

#[tokio::test]
async fn a_crash_at_any_byte_leaves_the_old_or_the_new_state() {
    let directory = tempfile::tempdir().expect("tempdir");
    let plane = reopen(directory.path()).await;
    let mut states = vec![];
    for size in 1..6 {
        let revision = plane.revision();
        let (code, _) = apply(&plane, "t", true, widget("a", json!({"size": size}))).await;
        assert!(code < 300);
        states.push((revision, size - 1));
    }
    states.push((plane.revision(), 5));
    let journal = std::fs::read(directory.path().join("journal-0")).expect("journal");
    drop(plane);
    for cut in 0..=journal.len() {
        let crashed = tempfile::tempdir().expect("tempdir");
        std::fs::write(crashed.path().join("journal-0"), &journal[..cut]).expect("write");
        let plane = ControlPlane::open(at(crashed.path()))
            .unwrap_or_else(|e| panic!("cut at {cut}: {e:?}"));
        let (code, body) = get(&plane, &format!("{WIDGETS}/a")).await;
        let size = if code == 404 {
            0
        } else {
            body["spec"]["size"].as_i64().expect("a whole object")
        };
        assert!(
            states.iter().any(|(_, s)| *s == size),
            "cut at {cut}: torn state {body}"
        );
        // And it goes on from there (not at every cut: each open and write is synced to the disk).
        if cut % 41 != 0 {
            continue;
        }
        let (code, _) = apply(&plane, "t", true, widget("a", json!({"size": 50}))).await;
        assert!(code < 300, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().expect("tempdir");
    let _plane = reopen(directory.path()).await;
    let error = ControlPlane::open(at(directory.path())).expect_err("refused");
    let text = format!("{:#}", std::error::Error::source(&error).expect("a cause"));
    assert!(
        text.contains(&format!("in use by process {}", std::process::id())),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_of_another_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("tempdir");
    std::fs::write(directory.path().join("journal-0"), b"TMCPJ999whatever").expect("write");
    let error = ControlPlane::open(at(directory.path())).expect_err("refused");
    let text = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(
        text.contains("TMCPJ001") && text.contains("TMCPJ999"),
        "{text}"
    );
    assert_eq!(
        std::fs::read(directory.path().join("journal-0")).expect("read"),
        b"TMCPJ999whatever"
    );
}

#[tokio::test]
async fn objects_of_a_kind_that_is_not_served_now_stay_on_disk() {
    let directory = tempfile::tempdir().expect("tempdir");
    let plane = reopen(directory.path()).await;
    post(&plane, WIDGETS, widget("a", json!({"size": 3}))).await;
    drop(plane);
    let without = ControlPlaneConfig {
        crds: Vec::new(),
        ..at(directory.path())
    };
    let plane = ControlPlane::open(without).expect("opens");
    assert_eq!(get(&plane, &format!("{WIDGETS}/a")).await.0, 404);
    drop(plane);
    let plane = reopen(directory.path()).await;
    assert_eq!(get(&plane, &format!("{WIDGETS}/a")).await.0, 200);
}
