//! What do the end-to-end tests share: finding the binary, starting clusters, running real clients?

#![expect(clippy::panic, reason = "a test harness fails its test by panicking")]

pub mod apache_kafka;
pub mod broker_process;
pub mod client_programs;
pub mod cluster;
pub mod coordination;
pub mod counts;
pub mod disk;
pub mod quorum;
pub mod random;
pub mod raw;

use std::path::{Path, PathBuf};

/// The workspace's root folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// The `tidemark` binary under test: `TIDEMARK_BIN`, or the one beside the running test's folder.
///
/// # Panics
/// When it was not built, naming the command that builds it.
#[must_use]
pub fn tidemark() -> PathBuf {
    if let Some(given) = std::env::var_os("TIDEMARK_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/TEST")
        .join("tidemark");
    assert!(
        path.is_file(),
        "{} is not there: build it with `cargo build --profile ci -p cli`",
        path.display()
    );
    path
}

/// Says loudly that a test did not run, and why; the caller returns.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn skipped(test: &str, missing: &str) {
    eprintln!("SKIPPED {test}: {missing}");
}
