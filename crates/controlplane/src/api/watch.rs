//! watch: which events does a client see, from which revision, and when does it have to start over?
//!
//! A watch keeps only its position and pulls from the store's bounded history when the revision moves. A watch that
//! falls behind the history gets 410 Gone; none ever holds memory for a slow reader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Api, Call, events_alias, read};
use crate::api_error::ApiError;
use crate::kinds::{KindId, ServedAs};
use crate::selector::Selector;
use crate::store::{Change, ChangeKind, Store};

/// The API server's cadence; a quiet watch's position never gets older than this.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Without `timeoutSeconds`, the API server picks 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// One running watch.
#[derive(Debug)]
pub(crate) struct Watch {
    store: Arc<Store>,
    kind: KindId,
    api_version: String,
    kind_name: String,
    namespace: String,
    name: Option<String>,
    selector: Selector,
    position: u64,
    pending: VecDeque<Bytes>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    changed: tokio::sync::watch::Receiver<u64>,
    ended: bool,
    pub(super) served: ServedAs,
    pub(super) metadata_only: bool,
    initial: Vec<Arc<Value>>,
    initial_end_bookmark: bool,
}

impl Api {
    pub(super) fn watch(&self, call: &Call<'_>) -> Result<Watch, ApiError> {
        let selector = self.selector(call)?;
        let timeout = call
            .query
            .number("timeoutSeconds")?
            .filter(|s| *s > 0)
            .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let bookmarks = call.query.flag("allowWatchBookmarks");
        let changed = self.store.subscribe();
        let from = call.query.number("resourceVersion")?.unwrap_or(0);
        let send_initial = call.query.get("sendInitialEvents").map(|v| v == "true");
        if send_initial.is_some() && call.query.get("resourceVersionMatch") != Some("NotOlderThan")
        {
            return Err(ApiError::bad_request(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        let state = self.store.lock();
        let state_first = send_initial.unwrap_or(from == 0);
        let initial = if state_first {
            let all = state
                .of_kind(call.kind.id, &call.path.namespace)
                .map(|(_, object)| object);
            all.filter(|object| selector.matches(object))
                .cloned()
                .collect()
        } else {
            Vec::new()
        };
        let now = Instant::now();
        Ok(Watch {
            store: Arc::clone(&self.store),
            kind: call.kind.id,
            api_version: call.kind.api_version(),
            kind_name: call.kind.kind.clone(),
            namespace: call.path.namespace.clone(),
            name: Some(call.path.name.clone()).filter(|name| !name.is_empty()),
            selector,
            position: if state_first || from == 0 {
                state.revision
            } else {
                from
            },
            pending: VecDeque::new(),
            bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            deadline: now + timeout,
            changed,
            ended: false,
            served: ServedAs::Itself,
            metadata_only: false,
            initial,
            initial_end_bookmark: send_initial == Some(true) && bookmarks,
        })
    }
}

impl Watch {
    /// The next line to send; `None` ends the stream.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.send_initial();
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.pull();
            if !self.pending.is_empty() {
                continue;
            }
            let until = if self.bookmarks {
                self.deadline.min(self.next_bookmark)
            } else {
                self.deadline
            };
            tokio::select! {
                changed = self.changed.changed() => {
                    // The store is gone: so is the watch.
                    self.ended |= changed.is_err();
                }
                () = tokio::time::sleep_until(until) => self.on_timer(),
            }
        }
    }

    fn send_initial(&mut self) {
        for object in std::mem::take(&mut self.initial) {
            self.push("ADDED", (*object).clone());
        }
        if std::mem::take(&mut self.initial_end_bookmark) {
            self.push_bookmark(true);
        }
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        if self.bookmarks {
            self.push_bookmark(false);
            self.next_bookmark = now + BOOKMARK_EVERY;
        }
        self.ended |= now >= self.deadline;
    }

    fn pull(&mut self) {
        // Marked seen before reading: a change that lands meanwhile wakes the next round.
        self.changed.mark_unchanged();
        let pulled = self.store.lock().changes_since(self.position, self.kind);
        match pulled {
            Ok((changes, position)) => {
                self.position = position;
                changes.iter().for_each(|change| self.push_change(change));
            }
            Err(gone) => {
                self.push_raw(&json!({"type": "ERROR", "object": gone.status()}));
                self.ended = true;
            }
        }
    }

    /// A change as this watch's selector sees it: an object that starts to match appears, one that stops disappears.
    fn push_change(&mut self, change: &Change) {
        let in_scope = (self.namespace.is_empty() || change.key.namespace == self.namespace)
            && self
                .name
                .as_ref()
                .is_none_or(|name| *name == change.key.name);
        if !in_scope {
            return;
        }
        let before = change
            .previous
            .as_ref()
            .is_some_and(|old| self.selector.matches(old));
        let after = change.kind != ChangeKind::Deleted && self.selector.matches(&change.object);
        let what = match (before, after) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let mut object = (*change.object).clone();
        if let (Some(previous), "DELETED", ChangeKind::Modified) =
            (&change.previous, what, change.kind)
        {
            // It left the selection: the client sees the last state it knew, at the new revision.
            object = (**previous).clone();
            object["metadata"]["resourceVersion"] = json!(change.revision.to_string());
        }
        self.push(what, object);
    }

    fn push(&mut self, what: &str, mut object: Value) {
        if self.served == ServedAs::NewEvents {
            events_alias::to_served(&mut object);
        }
        if self.metadata_only {
            read::partial(&mut object);
        }
        self.push_raw(&json!({"type": what, "object": object}));
    }

    fn push_bookmark(&mut self, initial_end: bool) {
        let mut metadata =
            json!({"resourceVersion": self.position.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"apiVersion": self.api_version, "kind": self.kind_name, "metadata": metadata});
        self.push("BOOKMARK", object);
    }

    fn push_raw(&mut self, event: &Value) {
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        self.pending.push_back(Bytes::from(line));
    }
}
