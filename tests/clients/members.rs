//! What do the members of a group own and process, in the order in which it happens?
//!
//! All members write to one pipe, a line a write: what is written first happened first.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::client_programs::Client;
use tests::cluster::{Cluster, PATIENCE, await_some};

/// What the members said so far.
#[derive(Debug, Default)]
pub(crate) struct View {
    owners: BTreeMap<i32, String>,
    records: BTreeMap<String, BTreeMap<i32, usize>>,
    processed: BTreeMap<String, usize>,
    faults: Vec<String>,
}

impl View {
    /// How many partitions a member owns.
    pub(crate) fn owned(&self, name: &str) -> usize {
        self.owners.values().filter(|owner| *owner == name).count()
    }

    /// How many records of each partition a member processed.
    pub(crate) fn records(&self, name: &str) -> BTreeMap<i32, usize> {
        self.records.get(name).cloned().unwrap_or_default()
    }

    /// How often each value was processed.
    pub(crate) fn processed(&self) -> &BTreeMap<String, usize> {
        &self.processed
    }

    /// What must not have happened, and did.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    fn take(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (name, what) = (words.next().unwrap(), words.next().unwrap());
        let rest = words.next().unwrap_or_default();
        match what {
            "assigned" => rest.split(',').filter_map(number).for_each(|partition| {
                let before = self.owners.insert(partition, name.to_owned());
                if let Some(other) = before.filter(|other| other != name) {
                    self.faults
                        .push(format!("{partition} went to {name} while {other} had it"));
                }
            }),
            "revoked" => rest.split(',').filter_map(number).for_each(|partition| {
                let owner = self.owners.remove(&partition);
                if owner.as_deref() != Some(name) {
                    self.faults
                        .push(format!("{name} gave up {partition} of {owner:?}"));
                }
            }),
            "record" => {
                let (partition, value) = rest.split_once(' ').expect("a partition and a value");
                let partition = number(partition).expect("a partition");
                if self.owners.get(&partition).map(String::as_str) != Some(name) {
                    let owner = self.owners.get(&partition);
                    self.faults.push(format!(
                        "{name} processed {value} of {partition} of {owner:?}"
                    ));
                }
                let of = self.records.entry(name.to_owned()).or_default();
                *of.entry(partition).or_default() += 1;
                *self.processed.entry(value.to_owned()).or_default() += 1;
            }
            "left" => {
                if self.owned(name) > 0 {
                    self.faults
                        .push(format!("{name} left with {:?}", self.owners));
                }
            }
            _ => self.faults.push(format!("not understood: {line}")),
        }
    }
}

fn number(text: &str) -> Option<i32> {
    text.parse().ok()
}

struct Member {
    name: String,
    child: Child,
    errors: PathBuf,
}

impl Member {
    fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

/// The members of one group on one topic, each a process; killed when dropped.
pub(crate) struct Members<'a> {
    cluster: &'a Cluster,
    client: Client,
    topic: &'a str,
    view: Arc<Mutex<View>>,
    writer: PipeWriter,
    members: Vec<Member>,
}

impl<'a> Members<'a> {
    pub(crate) fn new(cluster: &'a Cluster, client: Client, topic: &'a str) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let view = Arc::new(Mutex::new(View::default()));
        let seen = Arc::clone(&view);
        // It ends with the last process that can write to the pipe.
        std::thread::spawn(move || follow(reader, &seen));
        Self {
            cluster,
            client,
            topic,
            view,
            writer,
            members: Vec::new(),
        }
    }

    /// Starts another member.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub(crate) fn join(&mut self, name: &str) -> Result<(), String> {
        let client = self.client;
        let failed = |error: std::io::Error| format!("{client:?}: {error}");
        let errors = self.cluster.scratch().join(format!("{name}.err"));
        let child = self
            .client
            .command("member")?
            .args([&self.cluster.bootstrap(), self.topic, "members", name])
            .stdin(Stdio::piped())
            .stdout(self.writer.try_clone().map_err(failed)?)
            .stderr(std::fs::File::create(&errors).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        self.members.push(Member {
            name: name.to_owned(),
            child,
            errors,
        });
        Ok(())
    }

    /// Waits until the members have said what is wanted.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&View) -> bool) {
        let deadline = Instant::now() + PATIENCE - Duration::from_secs(1);
        await_some(what, || {
            for member in &mut self.members {
                let ended = member.child.try_wait().expect("a child can be asked");
                assert!(
                    ended.is_none(),
                    "{what}: {} {ended:?}: {}",
                    member.name,
                    member.errors()
                );
            }
            let view = self.view.lock().unwrap();
            let late = || {
                let errors: Vec<_> = self.members.iter().map(Member::errors).collect();
                format!(
                    "{:?} {:?} {:?} {errors:?}",
                    view.owners, view.records, view.faults
                )
            };
            assert!(Instant::now() < deadline, "{what}: not in time: {}", late());
            holds(&view).then_some(())
        });
    }

    /// Tells a member to leave, and waits until it has.
    #[track_caller]
    pub(crate) fn leave(&mut self, name: &str) {
        let at = self.members.iter().position(|member| member.name == name);
        let mut member = self.members.remove(at.expect("it joined"));
        drop(member.child.stdin.take());
        let asked = format!("{name} has left");
        let status = await_some(&asked, || {
            member.child.try_wait().expect("a child can be asked")
        });
        assert!(status.success(), "{name} {status}: {}", member.errors());
    }

    pub(crate) fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap()
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Both fail when it has already ended, which is what is wanted.
            drop(member.child.kill());
            drop(member.child.wait());
        }
    }
}

fn follow(reader: PipeReader, view: &Mutex<View>) {
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { return };
        view.lock().unwrap().take(&line);
    }
}

/// A producer of `load-0`, `load-1`, ... until it is told to stop.
pub(crate) struct Load {
    stop: SyncSender<()>,
    running: JoinHandle<usize>,
}

impl Load {
    /// Records between two pauses, and the pause: about 2,000 a second.
    const PORTION: usize = 20;
    const PAUSE: Duration = Duration::from_millis(10);

    /// # Errors
    /// What is missing on this machine.
    pub(crate) fn start(bootstrap: &str, topic: &str) -> Result<Self, String> {
        let mut kcat = Command::new("kcat")
            .args(["-P", "-b", bootstrap, "-t", topic])
            .args(["-X", "enable.idempotence=true"])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("kcat: {error}"))?;
        let (stop, stopped) = sync_channel(0);
        let running = std::thread::spawn(move || {
            let mut input = kcat.stdin.take().expect("piped");
            let mut count = 0;
            // A test that fails drops the other end.
            while stopped.recv_timeout(Self::PAUSE) == Err(RecvTimeoutError::Timeout) {
                let lines = (count..count + Self::PORTION).map(|n| format!("load-{n}\n"));
                input
                    .write_all(lines.collect::<String>().as_bytes())
                    .expect("kcat reads");
                count += Self::PORTION;
            }
            drop(input);
            assert!(kcat.wait().expect("kcat ends").success());
            count
        });
        Ok(Self { stop, running })
    }

    /// How many records it produced; all are acknowledged.
    pub(crate) fn stop(self) -> usize {
        drop(self.stop);
        self.running.join().expect("kcat produced all")
    }
}

#[test]
fn a_partition_of_two_members_and_a_record_of_another_member_are_faults() {
    let faults = |lines: &[&str]| {
        let mut view = View::default();
        lines.iter().for_each(|line| view.take(line));
        view.faults
    };
    let handed = [
        "a assigned 0,1",
        "a record 0 x",
        "a revoked 1",
        "b assigned 1",
        "b record 1 y",
    ];
    assert!(faults(&handed).is_empty());
    assert_eq!(faults(&["a assigned 0,1", "b assigned 1"]).len(), 1);
    assert_eq!(faults(&["a assigned 0", "b record 0 x"]).len(), 1);
    assert_eq!(
        faults(&["a assigned 0", "a revoked 0", "a record 0 x"]).len(),
        1
    );
    assert_eq!(faults(&["a assigned 0", "a left"]).len(), 1);
}
