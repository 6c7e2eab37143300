//! How does the API learn how a pod is: by its status, and by events?

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::Worker;
use crate::node::pod::status::{ContainerState, Snapshot};
use crate::node::pod::unsupported::not_honoured;

impl Worker {
    pub(super) async fn write_status(&mut self, terminating: bool) {
        let (init, main): (Vec<_>, Vec<_>) = {
            let states: Vec<ContainerState> =
                self.slots.iter().map(|slot| slot.state.clone()).collect();
            (
                states[..self.init_count].to_vec(),
                states[self.init_count..].to_vec(),
            )
        };
        let snapshot = Snapshot {
            pod: &self.pod,
            address: self.place.address,
            started: self.started,
            init: &init,
            main: &main,
            terminating,
        };
        let status = snapshot.wire(self.last_status.as_ref(), Timestamp::now());
        if self.last_status.as_ref() == Some(&status) {
            return;
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": self.pod.uid()}, "status": status}));
        match self
            .api()
            .patch_status(&self.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => self.last_status = Some(status),
            Err(kube::Error::Api(e)) if e.code == 404 || e.code == 409 => {
                self.last_status = Some(status);
            }
            Err(e) => {
                tracing::debug!(pod = %self.name, error = %e, "failed to write a pod's status; the next change retries");
            }
        }
    }

    pub(super) async fn report_not_honoured(&self) {
        let list = not_honoured(&self.pod);
        if !list.is_empty() {
            let text = format!("not applied on the local node: {}", list.join("; "));
            self.event(EventType::Normal, "NotEnforced", &text).await;
        }
    }

    pub(super) async fn event(&self, type_: EventType, reason: &str, note: &str) {
        let mut note = note.to_owned();
        note.truncate(
            (0..=1000.min(note.len()))
                .rev()
                .find(|i| note.is_char_boundary(*i))
                .unwrap_or(0),
        );
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Run".to_owned(),
            secondary: None,
        };
        if let Err(e) = self
            .shared
            .recorder
            .publish(&event, &self.pod.object_ref(&()))
            .await
        {
            tracing::debug!(pod = %self.name, reason, error = %e, "failed to record an event");
        }
    }
}
