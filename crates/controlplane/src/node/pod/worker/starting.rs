//! When is a container started, with what, and what if something that it needs is not there?

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::EventType;
use tokio::time::Instant;

use super::Worker;
use super::containers::Slot;
use crate::node::logs;
use crate::node::pod::environment::{Downward, expand, variables};
use crate::node::pod::probes::Target;
use crate::node::pod::process::{Launch, program};
use crate::node::pod::status::Phase;
use crate::node::pod::volumes::{self, VolumeError};

/// Reasons of containers that wait for something the pod refers to.
const BLOCKED: [&str; 2] = ["CreateContainerConfigError", "FailedMount"];

/// A container that cannot start for this long says why in an event.
const WORTH_TELLING: Duration = Duration::from_millis(900);

impl Worker {
    /// Starts what is due: init containers one after the other, then all the others.
    pub(super) async fn advance(&mut self) {
        let done =
            |slot: &Slot| matches!(&slot.state.phase, Phase::Terminated(exit) if exit.code == 0);
        let first_init = self.slots[..self.init_count]
            .iter()
            .position(|slot| !done(slot));
        let any_main = self.slots[self.init_count..]
            .iter()
            .any(|slot| slot.state.phase != Phase::Created);
        let candidates = match first_init {
            Some(index) if !any_main => index..index + 1,
            _ => self.init_count..self.slots.len(),
        };
        let now = Instant::now();
        for index in candidates {
            let slot = &self.slots[index];
            let new = slot.process.is_none()
                && slot.due.is_none()
                && !matches!(slot.state.phase, Phase::Terminated(_));
            if new || slot.due.is_some_and(|due| due <= now) {
                self.start(index).await;
            }
        }
    }

    async fn start(&mut self, index: usize) {
        let mounted = self.mountable();
        let launch = match self.prepare(index) {
            Ok(launch) => launch,
            Err(e) => return self.block(index, &e).await,
        };
        (self.blocked, self.mounted) = (None, mounted);
        let slot = &mut self.slots[index];
        match launch.start() {
            Ok(process) => {
                let now = Instant::now();
                slot.state.phase = Phase::Running {
                    pid: process.pid(),
                    since: Timestamp::now(),
                };
                (slot.due, slot.run_since, slot.process) = (None, now, Some(process));
                (slot.state.started, slot.state.ready) = (false, false);
                if index >= self.init_count {
                    let target = Target {
                        address: self.place.address,
                        port_offset: self.place.port_offset,
                        exe: self.shared.exe.clone(),
                        env: launch.env,
                    };
                    slot.start_probes(index, target, self.report.clone());
                }
            }
            Err(e) => {
                let message = format!("failed to start {}: {e}", launch.program.display());
                slot.fail_to_start("RunContainerError", &message);
                self.event(EventType::Warning, "Failed", &message).await;
            }
        }
    }

    /// Something the pod refers to is not there: say so once, try again when anything moves.
    async fn block(&mut self, index: usize, error: &VolumeError) {
        let text = match error {
            VolumeError::Io { source, .. } => format!("{error}: {source}"),
            VolumeError::Missing(_) | VolumeError::Unsupported { .. } => error.to_string(),
        };
        let (reason, wait) = match error {
            VolumeError::Missing(_) => (BLOCKED[0], Duration::from_secs(1)),
            VolumeError::Io { .. } | VolumeError::Unsupported { .. } => {
                (BLOCKED[1], Duration::from_secs(5))
            }
        };
        let slot = &mut self.slots[index];
        slot.state.phase = Phase::Waiting {
            reason: reason.to_owned(),
            message: text.clone(),
        };
        // Blocked starts are tried again on every change; the timer is the safety net.
        let now = Instant::now();
        slot.due = Some(now + wait);
        let since = match self.blocked.take() {
            Some((before, since)) if before == text => since,
            _ => {
                self.told = false;
                now
            }
        };
        self.blocked = Some((text.clone(), since));
        // What comes within a moment (a claim being bound) is not worth an event.
        if !self.told && since.elapsed() >= WORTH_TELLING {
            self.told = true;
            self.event(EventType::Warning, reason, &text).await;
        }
    }

    pub(super) fn retry_blocked(&mut self) {
        for slot in &mut self.slots {
            if matches!(&slot.state.phase, Phase::Waiting { reason, .. } if BLOCKED.contains(&reason.as_str()))
            {
                slot.due = Some(Instant::now());
            }
        }
    }

    fn prepare(&self, index: usize) -> Result<Launch, VolumeError> {
        let container = &self.slots[index].container;
        let downward = Downward {
            pod: &self.pod,
            address: self.place.address,
            node: &self.shared.node_name,
        };
        let root = self.folder.join("volumes");
        let volumes = volumes::materialise(&self.pod, &root, downward, self, self)?;
        let mut env = variables(container, downward, self)?;
        let mounts = volumes::mounts(container, &volumes, &env)?;
        let expand_all = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter()
                .flatten()
                .map(|text| mounts.rewrite(&expand(text, &env)))
                .collect()
        };
        let (command, rest) = program(&expand_all(&container.command), &self.shared.exe);
        let args = rest
            .into_iter()
            .chain(expand_all(&container.args))
            .collect();
        for (_, value) in &mut env {
            *value = mounts.rewrite(value);
        }
        let address = self.place.address.to_string();
        for (name, value) in [
            ("HOSTNAME", self.name.clone()),
            ("TIDEMARK_MOUNTS", mounts.variable()),
            ("TIDEMARK_HOSTS", self.hosts.display().to_string()),
            ("TIDEMARK_BIND_HOST", address.clone()),
            ("TIDEMARK_ADVERTISED_HOST", address),
        ] {
            env.push((name.to_owned(), value));
        }
        if self.place.port_offset > 0 {
            env.push((
                "TIDEMARK_PORT_OFFSET".to_owned(),
                self.place.port_offset.to_string(),
            ));
        }
        Ok(Launch {
            program: command,
            args,
            env,
            log: self.log_file(&container.name),
            record: self.record_file(&container.name),
        })
    }

    pub(super) fn log_file(&self, container: &str) -> PathBuf {
        logs::log_file(
            &self.shared.data_dir,
            &self.namespace,
            &self.name,
            container,
        )
    }

    pub(super) fn record_file(&self, container: &str) -> PathBuf {
        self.folder.join(format!("{container}.process"))
    }
}
