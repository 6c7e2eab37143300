//! How does a test run programs beside a cluster, see what they say, and end them?

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tests::client_programs::{java_class, kafka_jars, python};
use tests::cluster::{Cluster, send_signal};
use tests::root;

use crate::load::await_some;

/// What to say of a program that is not there.
pub(crate) const MISSING: &str = "a client: run tests/platform/setup";
/// A short start and a small heap count more here than speed later.
const JVM: &[&str] = &["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"];

/// A program that runs until its standard input ends, or until it is ended; killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    /// What it prints; its own log, if it has one, is `NAME.log` beside it.
    output: PathBuf,
}

impl Program {
    /// Starts it; what it prints goes to a file of that name, behind what an earlier one printed.
    pub(crate) fn start(cluster: &Cluster, name: &str, command: Command) -> Self {
        let file = output_file(&output_of(cluster, name));
        Self::start_writing_to(cluster, name, command, file.into())
    }

    /// As [`Program::start`], but what it prints goes elsewhere, and only its errors to the file.
    pub(crate) fn start_writing_to(
        cluster: &Cluster,
        name: &str,
        mut command: Command,
        stdout: Stdio,
    ) -> Self {
        let output = output_of(cluster, name);
        let child = command
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(output_file(&output))
            .spawn()
            .expect("the program starts");
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    /// What it printed so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Must still run.
    #[track_caller]
    pub(crate) fn assert_runs(&mut self) {
        let ended = self.ended();
        assert_eq!(ended, None, "{} ended: {}", self.name, self.output());
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        use std::io::Write as _;
        let input = self
            .child
            .stdin
            .as_mut()
            .expect("open until it is finished");
        writeln!(input, "{line}").expect("it reads");
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Ends its standard input, waits for its good end; what it printed.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        self.end_input();
        let status = await_some(&format!("{} ends", self.name), || self.ended());
        assert!(
            status.success(),
            "{}: {status} {}",
            self.name,
            self.output()
        );
        self.output()
    }

    /// Ends one that stops by a signal.
    #[track_caller]
    pub(crate) fn terminate(mut self) {
        if self.ended().is_none() {
            send_signal(self.child.id(), "TERM");
            await_some(&format!("{} ends", self.name), || self.ended());
        }
    }

    fn log(&self) -> PathBuf {
        self.output.with_file_name(format!("{}.log", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail when it has already ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            for file in [self.output.clone(), self.log()] {
                let kept = std::env::temp_dir().join(format!(
                    "tidemark-failed-{}-{}",
                    std::process::id(),
                    file.file_name().unwrap_or_default().to_string_lossy()
                ));
                // Best effort: what a failed test's programs said is worth more than a tidy temporary folder.
                drop(std::fs::copy(&file, &kept));
            }
        }
    }
}

fn output_of(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.scratch().join(format!("{name}.out"))
}

fn output_file(path: &Path) -> std::fs::File {
    let mut options = std::fs::File::options();
    let file = options.create(true).append(true).open(path);
    file.expect("a file for the output")
}

/// A class of Apache Kafka's jars in a small JVM that writes `NAME.log` beside its output; `None` without the jars.
pub(crate) fn java(cluster: &Cluster, name: &str, class: &str) -> Option<Command> {
    let mut command = java_class(class)?;
    let (program, args) = (command.get_program().to_owned(), command.get_args());
    let args: Vec<_> = args.map(std::ffi::OsStr::to_owned).collect();
    command = Command::new(program);
    command.args(JVM).arg(log_option(cluster, name));
    // Native libraries are unpacked there.
    command.arg(format!("-Djava.io.tmpdir={}", cluster.scratch().display()));
    command.args(args);
    Some(command)
}

/// One of our own Java programs (`tests/frameworks/java`).
pub(crate) fn java_source(cluster: &Cluster, name: &str, file: &str) -> Option<Command> {
    let path = root().join("tests/frameworks/java").join(file);
    java(cluster, name, &path.to_string_lossy())
}

fn log_option(cluster: &Cluster, name: &str) -> String {
    let log = cluster.scratch().join(format!("{name}.log"));
    let config = cluster.scratch().join(format!("{name}.log4j2.yaml"));
    let text = format!(
        "Configuration:\n  status: WARN\n  Appenders:\n    File: {{name: F, fileName: \"{}\", PatternLayout: {{pattern: \
         \"[%d] %p %m (%c)%n\"}}}}\n  Loggers:\n    Root: {{level: INFO, AppenderRef: [{{ref: F}}]}}\n",
        log.display()
    );
    std::fs::write(&config, text).expect("a file for the logging");
    format!("-Dlog4j2.configurationFile={}", config.display())
}

/// A script of `tests/`; `None` without the Python clients.
pub(crate) fn script(path: &str) -> Option<Command> {
    let mut command = Command::new(python()?);
    command.arg(root().join("tests").join(path));
    Some(command)
}

/// The lines that a script prints, which must succeed.
#[track_caller]
pub(crate) fn lines(mut command: Command) -> Vec<String> {
    let output = command.output().expect("the program runs");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

/// Whether both kinds of clients are there.
pub(crate) fn installed() -> bool {
    python().is_some() && kafka_jars().is_some()
}

/// Writes a Java properties file.
pub(crate) fn properties(path: &Path, entries: &[(&str, &str)]) {
    let text: String = entries
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    std::fs::write(path, text).expect("a file for the properties");
}
