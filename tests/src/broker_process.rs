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

/// A page of the HTTP port of the broker on `host`, if it answers and is ready to.
///
/// # Panics
/// When there is no `curl`.
#[must_use]
pub fn page(host: &str, page: &str) -> Option<String> {
    let url = format!("http://{host}:9404/{page}");
    let output = Command::new("curl")
        .args(["-sf", "-m", "2", &url])
        .output()
        .expect("curl runs");
    let is_there = output.status.success();
    is_there.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
