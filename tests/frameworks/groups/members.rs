//! The members of a group: started, told to leave, listened to, and the trigger that one of them may pull.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tests::cluster::Cluster;

use crate::load::{await_some, await_true};
use crate::programs::{Program, java_source, script};

use super::history::{Event, What, parse};
use super::moments::{Killer, Moment};

/// Pulled when a member has told of a moment so many times.
#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) moment: Moment,
    pub(crate) left: u64,
    pub(crate) killer: Option<Killer>,
}

/// What the members said so far.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) events: Vec<Event>,
    /// Lines that say nothing known.
    pub(crate) strange: Vec<String>,
    owned: BTreeMap<String, BTreeSet<i32>>,
    /// How many records of each partition were processed.
    records: BTreeMap<i32, u64>,
    values: BTreeSet<String>,
    trigger: Option<Trigger>,
}

impl View {
    fn take(&mut self, line: String) {
        let Some(event) = parse(&line) else {
            self.strange.push(line);
            return;
        };
        if let Some(trigger) = &mut self.trigger
            && trigger.moment.is_told_by(&event)
        {
            trigger.left = trigger.left.saturating_sub(1);
            if trigger.left == 0
                && let Some(killer) = trigger.killer.take()
            {
                killer.fire();
            }
        }
        let owned = self.owned.entry(event.member.clone()).or_default();
        match &event.what {
            What::Assigned(partitions) => owned.extend(partitions),
            What::Revoked(partitions) | What::Lost(partitions) => {
                owned.retain(|partition| !partitions.contains(partition));
            }
            What::Left => owned.clear(),
            What::Record {
                partition, value, ..
            } => {
                *self.records.entry(*partition).or_default() += 1;
                self.values.insert(value.clone());
            }
            _ => {}
        }
        self.events.push(event);
    }

    /// How many different values were processed.
    pub(crate) fn processed(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn records(&self) -> BTreeMap<i32, u64> {
        self.records.clone()
    }

    /// Whether the trigger was pulled, or there is none.
    pub(crate) fn is_fired(&self) -> bool {
        self.trigger
            .as_ref()
            .is_none_or(|trigger| trigger.killer.is_none())
    }

    /// Whether each of the members owns something, and each of so many partitions has one owner.
    fn shared(&self, members: &BTreeSet<String>, partitions: i32) -> bool {
        let owners = self.owned.iter().filter(|(_, owned)| !owned.is_empty());
        let names: BTreeSet<String> = owners.map(|(name, _)| name.clone()).collect();
        let mut all: Vec<i32> = self.owned.values().flatten().copied().collect();
        all.sort_unstable();
        names == *members && all.into_iter().eq(0..partitions)
    }
}

/// The members of one group, each a process; Java's and librdkafka's in turn.
#[derive(Debug)]
pub(crate) struct Members {
    view: Arc<Mutex<View>>,
    writer: PipeWriter,
    /// The oldest first.
    members: VecDeque<(String, Program)>,
    leaving: Vec<Program>,
    joined: usize,
    topic: &'static str,
    group: String,
    protocol: &'static str,
}

impl Members {
    pub(crate) fn new(topic: &'static str, group: &str, protocol: &'static str) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let view = Arc::new(Mutex::new(View::default()));
        let seen = Arc::clone(&view);
        // It ends with the last process that can write to the pipe.
        std::thread::spawn(move || follow(reader, &seen));
        Self {
            view,
            writer,
            members: VecDeque::new(),
            leaving: Vec::new(),
            joined: 0,
            topic,
            group: group.to_owned(),
            protocol,
        }
    }

    /// Also after a check of it has failed.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    /// Sets the trigger, or takes it away.
    pub(crate) fn arm(&self, trigger: Option<Trigger>) {
        self.view().trigger = trigger;
    }

    /// Who joins from now on does so by this protocol.
    pub(crate) const fn set_protocol(&mut self, protocol: &'static str) {
        self.protocol = protocol;
    }

    /// Starts one more.
    pub(crate) fn join(&mut self, cluster: &Cluster) {
        let kinds = ["java", "librdkafka"];
        let name = format!("{}-{}", kinds[self.joined % 2], self.joined);
        let command = match self.joined % 2 {
            0 => java_source(cluster, &name, "GroupWorker.java"),
            _ => script("frameworks/python/group_worker.py"),
        };
        let mut command = command.expect("asked before");
        command.args([
            &cluster.bootstrap(),
            self.topic,
            &self.group,
            &name,
            self.protocol,
        ]);
        let writer = self.writer.try_clone().expect("a second handle");
        let program = Program::start_writing_to(cluster, &name, command, writer.into());
        self.members.push_back((name, program));
        self.joined += 1;
    }

    /// Tells the oldest to leave.
    pub(crate) fn leave(&mut self) {
        let (_, mut program) = self.members.pop_front().expect("somebody is there");
        program.end_input();
        self.leaving.push(program);
    }

    /// Waits until who was told to leave has ended well.
    #[track_caller]
    pub(crate) fn await_left(&mut self) {
        for program in self.leaving.drain(..) {
            program.finish();
        }
    }

    #[track_caller]
    fn assert_run(&mut self) {
        for (_, program) in &mut self.members {
            program.assert_runs();
        }
    }

    /// Waits until the members share all partitions and records of each flow, more than `before`.
    #[track_caller]
    pub(crate) fn await_converged(
        &mut self,
        partitions: i32,
        before: &BTreeMap<i32, u64>,
        what: &str,
    ) {
        self.await_left();
        let names: BTreeSet<String> = self.members.iter().map(|(name, _)| name.clone()).collect();
        await_true(&format!("the members share all partitions {what}"), || {
            self.assert_run();
            let view = self.view();
            let flows = (0..partitions).all(|one| view.records.get(&one) > before.get(&one));
            flows && view.shared(&names, partitions)
        });
    }

    /// Waits until the members have said something.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, what: &str, mut look: impl FnMut(&View) -> Option<T>) -> T {
        await_some(what, || {
            self.assert_run();
            look(&self.view())
        })
    }
}

fn follow(reader: PipeReader, view: &Mutex<View>) {
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { return };
        view.lock().unwrap().take(line);
    }
}
