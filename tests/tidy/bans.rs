//! Do the pure cores ban clocks, files and sockets, on top of the workspace's own bans?
//!
//! A `clippy.toml` inside a crate replaces the root one, so each core's must repeat the root's entries.

use crate::{assert_none, read, root, tracked};
use std::path::Path;

/// Crates whose time, randomness and I/O are arguments.
const CORES: &[&str] = &[
    "crates/types",
    "crates/wire",
    "broker/core",
    "broker/log",
    "operator/core",
];
const CORE_BANS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::fs::File::open",
    "std::net::TcpStream::connect",
];

/// `broker-log`'s one real file system sees files by design; its clippy.toml says so.
const LOG_MAY: &str = "std::fs::File::open";

fn banned_paths(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            line.split_once("path = \"")
                .and_then(|(_, rest)| rest.split_once('"'))
        })
        .map(|(path, _)| path.to_owned())
        .collect()
}

fn violations(folder: &str, root_text: &str, core_text: &str) -> Vec<String> {
    let have = banned_paths(core_text);
    banned_paths(root_text)
        .into_iter()
        .chain(CORE_BANS.iter().map(|&path| path.to_owned()))
        .filter(|path| !(folder == "broker/log" && path == LOG_MAY))
        .filter(|path| !have.contains(path))
        .map(|path| format!("{folder}/clippy.toml does not ban {path}"))
        .collect()
}

#[test]
fn cores_ban_clocks_files_and_sockets() {
    let root_text = read(Path::new("clippy.toml"));
    let mut found = Vec::new();
    for folder in CORES {
        let path = Path::new(folder).join("clippy.toml");
        if root().join(&path).is_file() {
            found.extend(violations(folder, &root_text, &read(&path)));
        } else {
            found.push(format!("{folder} has no clippy.toml"));
        }
    }
    assert_none("bans", &found);
}

#[test]
fn a_missing_ban_is_reported() {
    let root_text = "{ path = \"a::b\", reason = \"x\" }";
    let core_text = "{ path = \"std::time::Instant::now\" }";
    assert_eq!(violations("broker/core", root_text, core_text).len(), 4);
}

#[test]
fn unsafe_code_is_allowed_in_named_modules_only() {
    const MAY: &[&str] = &[];
    let found: Vec<String> = tracked(&[".rs"])
        .iter()
        .filter(|path| {
            read(path).lines().any(|line| {
                line.trim_start().starts_with("#![allow(unsafe_code)]")
                    || line.trim_start().starts_with("#[allow(unsafe_code)]")
                    || line.trim_start().starts_with("#[expect(unsafe_code")
            })
        })
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| !MAY.contains(&path.as_str()))
        .collect();
    assert_none("unsafe code outside the audited modules", &found);
}
