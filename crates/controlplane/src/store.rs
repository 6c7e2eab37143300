//! What objects exist now, and what changed since a revision?
//!
//! One lock, one revision counter for all kinds (as in etcd), a bounded history that watches pull from (so a slow
//! watch costs nothing and falls off with 410 Gone), and an optional journal that every change passes before it is
//! visible.

pub(crate) mod journal;
mod records;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api_error::ApiError;
use crate::kinds::{KindId, Registry, group_of};
use journal::{Journal, JournalError, Record};

/// Names one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: KindId,
    /// Empty for cluster-scoped kinds.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One entry of the watch history.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) kind: ChangeKind,
    /// The new object; of a deletion the last one, with the revision of the deletion.
    pub(crate) object: Arc<Value>,
    pub(crate) previous: Option<Arc<Value>>,
}

/// The rest of a paged list, kept so that all pages show one revision.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) revision: u64,
    pub(crate) items: Arc<Vec<Arc<Value>>>,
}

/// How many unfinished paged lists are remembered; an older one answers 410 and is listed again.
const MAX_PAGES: usize = 32;

/// Everything behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<Key, Arc<Value>>,
    by_uid: HashMap<String, Key>,
    history: VecDeque<Change>,
    history_limit: usize,
    pages: VecDeque<(u64, Page)>,
    next_page: u64,
    /// Objects whose owners changed or never existed; drained by the garbage collector.
    pub(crate) gc_queue: std::collections::BTreeSet<Key>,
    /// Objects of kinds that are not served now; every snapshot carries them on.
    dormant: Vec<Arc<Value>>,
    journal: Option<Journal>,
}

/// A change that must be on disk before its answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u64);

/// The object store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) registry: Arc<Registry>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    durable: Option<watch::Receiver<journal::Durable>>,
}

impl Store {
    /// An empty or, with a journal, recovered store.
    pub(crate) fn open(
        registry: Arc<Registry>,
        directory: Option<&std::path::Path>,
        history_limit: usize,
    ) -> Result<Self, JournalError> {
        let (journal, recovered) = match directory {
            Some(directory) => {
                let (journal, recovered) = Journal::open(directory)?;
                (Some(journal), recovered)
            }
            None => (None, journal::Recovered::default()),
        };
        let durable = journal.as_ref().map(Journal::durable);
        let mut state = State {
            revision: recovered.revision,
            objects: BTreeMap::new(),
            by_uid: HashMap::new(),
            history: VecDeque::new(),
            history_limit,
            pages: VecDeque::new(),
            next_page: 0,
            gc_queue: std::collections::BTreeSet::new(),
            dormant: Vec::new(),
            journal,
        };
        for object in recovered.objects {
            // A kind that is no longer served keeps its objects on disk, untouched, until it is served again.
            match key_of(&registry, &object) {
                Some(key) => state.index(key, Arc::new(object)),
                None => {
                    let (api_version, kind) =
                        (object["apiVersion"].as_str(), object["kind"].as_str());
                    tracing::warn!(
                        api_version,
                        kind,
                        "an object of a kind that is not served stays on disk"
                    );
                    state.dormant.push(Arc::new(object));
                }
            }
        }
        let all: Vec<Key> = state.objects.keys().cloned().collect();
        state.gc_queue.extend(all);
        let revision = state.revision;
        Ok(Self {
            registry,
            state: Mutex::new(state),
            changed: watch::channel(revision).0,
            durable,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Wakes whenever the revision moves.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Stores an object; returns it with its new `resourceVersion`.
    pub(crate) fn put(
        &self,
        state: &mut State,
        key: Key,
        mut object: Value,
    ) -> Result<(Arc<Value>, Ticket), ApiError> {
        let revision = state.revision + 1;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let object = Arc::new(object);
        let ticket = state.journal_write(
            &self.registry,
            &Record::Put {
                revision,
                object: Arc::clone(&object),
            },
        )?;
        let previous = state.objects.get(&key).cloned();
        let kind = if previous.is_some() {
            ChangeKind::Modified
        } else {
            ChangeKind::Added
        };
        state.index(key.clone(), Arc::clone(&object));
        self.publish(
            state,
            Change {
                revision,
                key,
                kind,
                object: Arc::clone(&object),
                previous,
            },
        );
        Ok((object, ticket))
    }

    /// Removes an object; returns its last state, stamped with the revision of the removal.
    pub(crate) fn remove(
        &self,
        state: &mut State,
        key: &Key,
    ) -> Result<(Arc<Value>, Ticket), ApiError> {
        let kind = self.registry.get(key.kind);
        let missing = || ApiError::not_found(&kind.group, &kind.plural, &key.name);
        let previous = Arc::clone(state.objects.get(key).ok_or_else(missing)?);
        let revision = state.revision + 1;
        let record = Record::Remove {
            revision,
            api_version: kind.api_version(),
            kind: kind.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        };
        let ticket = state.journal_write(&self.registry, &record)?;
        let mut last = (*previous).clone();
        last["metadata"]["resourceVersion"] = json!(revision.to_string());
        let object = Arc::new(last);
        state.objects.remove(key);
        if let Some(uid) = uid_of(&object) {
            state.by_uid.remove(uid);
            let orphans: Vec<Key> = state.dependents(uid).map(|(key, _)| key.clone()).collect();
            state.gc_queue.extend(orphans);
        }
        state.queue_waiting(&self.registry, key, &object);
        let change = Change {
            revision,
            key: key.clone(),
            kind: ChangeKind::Deleted,
            object: Arc::clone(&object),
            previous: Some(previous),
        };
        self.publish(state, change);
        Ok((object, ticket))
    }

    fn publish(&self, state: &mut State, change: Change) {
        state.revision = change.revision;
        state.history.push_back(change);
        while state.history.len() > state.history_limit {
            state.history.pop_front();
        }
        self.changed.send_replace(state.revision);
    }

    /// Waits until a change is on disk; at once without a journal.
    pub(crate) async fn durable(&self, ticket: Ticket) -> Result<(), ApiError> {
        let Some(mut durable) = self.durable.clone() else {
            return Ok(());
        };
        let reached = durable
            .wait_for(|d| d.failed.is_some() || d.written >= ticket.0)
            .await;
        match reached {
            Ok(state) => match &state.failed {
                Some(reason) => Err(ApiError::internal(format!(
                    "failed to write the journal: {reason}"
                ))),
                None => Ok(()),
            },
            Err(_closed) => Err(ApiError::internal("the control plane is shutting down")),
        }
    }
}

impl State {
    fn journal_write(&mut self, registry: &Registry, record: &Record) -> Result<Ticket, ApiError> {
        let Some(journal) = &mut self.journal else {
            return Ok(Ticket(0));
        };
        let failed = |e: JournalError| ApiError::internal(e.to_string());
        if journal.wants_snapshot() {
            journal
                .snapshot(self.revision, self.objects.values().chain(&self.dormant))
                .map_err(failed)?;
            tracing::debug!(
                revision = self.revision,
                kinds = registry.iter().count(),
                "wrote a snapshot"
            );
        }
        journal.append(record).map(Ticket).map_err(failed)
    }

    fn index(&mut self, key: Key, object: Arc<Value>) {
        if let Some(uid) = uid_of(&object) {
            self.by_uid.insert(uid.to_owned(), key.clone());
        }
        if object.pointer("/metadata/ownerReferences").is_some() || is_terminating(&object) {
            self.gc_queue.insert(key.clone());
        }
        self.objects.insert(key, object);
    }

    /// A removal may be what a terminating owner or namespace waits for.
    fn queue_waiting(&mut self, registry: &Registry, removed: &Key, object: &Value) {
        let owners: Vec<Key> = owners(object)
            .filter_map(|owner| self.by_uid.get(owner["uid"].as_str()?).cloned())
            .collect();
        self.gc_queue.extend(owners);
        if let Some(namespaces) = registry
            .by_kind("", "Namespace")
            .filter(|_| !removed.namespace.is_empty())
        {
            let name = removed.namespace.clone();
            self.gc_queue.insert(Key {
                kind: namespaces.id,
                namespace: String::new(),
                name,
            });
        }
    }

    pub(crate) fn by_uid(&self, uid: &str) -> Option<(&Key, &Arc<Value>)> {
        let key = self.by_uid.get(uid)?;
        self.objects.get(key).map(|object| (key, object))
    }

    /// Objects that name `uid` as an owner.
    pub(crate) fn dependents<'s>(
        &'s self,
        uid: &'s str,
    ) -> impl Iterator<Item = (&'s Key, &'s Arc<Value>)> {
        self.objects.iter().filter(move |(_, object)| {
            owners(object).any(|owner| owner["uid"].as_str() == Some(uid))
        })
    }

    /// All objects of a kind, in name order; an empty namespace means all of them.
    pub(crate) fn of_kind<'s>(
        &'s self,
        kind: KindId,
        namespace: &'s str,
    ) -> impl Iterator<Item = (&'s Key, &'s Arc<Value>)> {
        let first = Key {
            kind,
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(key, _)| {
            key.kind == kind && (namespace.is_empty() || key.namespace == namespace)
        })
    }

    /// The changes of a kind after `revision`, and the revision they reach; an error when the history no longer
    /// reaches back that far.
    pub(crate) fn changes_since(
        &self,
        revision: u64,
        kind: KindId,
    ) -> Result<(Vec<Change>, u64), ApiError> {
        let oldest = self.revision - self.history.len() as u64;
        if revision < oldest {
            return Err(ApiError::expired(format!(
                "too old resource version: {revision} ({oldest})"
            )));
        }
        let skip = usize::try_from(revision - oldest).unwrap_or(usize::MAX);
        let changes = self
            .history
            .iter()
            .skip(skip)
            .filter(|change| change.key.kind == kind)
            .cloned();
        Ok((changes.collect(), self.revision))
    }

    /// Forgets the watch history, so that every older watch answers 410 (fault injection, tests).
    pub(crate) fn compact(&mut self) {
        self.history.clear();
    }

    pub(crate) fn remember_page(&mut self, page: Page) -> u64 {
        self.next_page += 1;
        self.pages.push_back((self.next_page, page));
        while self.pages.len() > MAX_PAGES {
            self.pages.pop_front();
        }
        self.next_page
    }

    pub(crate) fn page(&self, id: u64) -> Option<Page> {
        self.pages
            .iter()
            .find(|(page, _)| *page == id)
            .map(|(_, page)| page.clone())
    }
}

pub(crate) fn uid_of(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid").and_then(Value::as_str)
}

pub(crate) fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

pub(crate) fn is_terminating(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|t| !t.is_null())
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    list.filter_map(Value::as_str).collect()
}

/// The key of a stored object, from its own `apiVersion`, `kind` and metadata.
pub(crate) fn key_of(registry: &Registry, object: &Value) -> Option<Key> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let kind = registry.by_kind(group_of(text("/apiVersion")), text("/kind"))?;
    Some(Key {
        kind: kind.id,
        namespace: text("/metadata/namespace").to_owned(),
        name: text("/metadata/name").to_owned(),
    })
}
