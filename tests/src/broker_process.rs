//! How does a test run a broker as a process of its own, without `tidemark up`?

use std::path::Path;
use std::process::{Command, Stdio};

/// Makes `command`, which runs the binary, the broker `name` of `folder`'s `broker.yaml`: on `host`, with `/data` in the folder of its name, and
/// what it prints appended to `NAME.log`. It ends with the test, however that ends.
///
/// # Panics
/// When the folder cannot be written to.
pub fn prepare(command: &mut Command, folder: &Path, name: &str, host: &str) {
    let data = folder.join(name);
    std::fs::create_dir_all(&data).expect("a folder");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join(format!("{name}.log")))
        .expect("a file for the output");
    command
        .args(["broker", "--node-name", name, "--config"])
        .arg(folder.join("broker.yaml"))
        .env("TIDEMARK_MOUNTS", format!("/data={}", data.display()))
        .env("TIDEMARK_BIND_HOST", host)
        .env("TIDEMARK_PARENT_FD", "0")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log);
}
