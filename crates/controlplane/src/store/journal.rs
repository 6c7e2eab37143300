//! How do the objects survive a crash at any byte?
//!
//! A directory holds one generation: `snapshot-N` (whole, written aside and renamed) and `journal-N` (changes since).
//! Every change is written before it is visible and answered after it is synced; syncs are shared by all changes that
//! wait (group commit). Opening reads the newest snapshot, replays its journal up to the first torn frame, keeps the
//! torn bytes beside it and goes on appending.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::records::{JOURNAL_MAGIC, SNAPSHOT_MAGIC, read_frames, write_frame};

/// A journal that cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{path} is in use by process {pid}: stop it first (or give another data directory)")]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as the file says.
        pid: String,
    },
    /// A file of another version, or not ours.
    #[error("{path} is not a file of format {expected}: it starts with {found:?}")]
    WrongFormat {
        /// Which file.
        path: PathBuf,
        /// What this build writes.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A snapshot was renamed into place and is damaged all the same: the disk lost data.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An earlier write failed; nothing is accepted until a restart.
    #[error("the journal failed before: {0}")]
    Failed(String),
}

/// One change.
#[derive(Debug)]
pub(crate) enum Record {
    Put {
        revision: u64,
        object: Arc<Value>,
    },
    Remove {
        revision: u64,
        api_version: String,
        kind: String,
        namespace: String,
        name: String,
    },
}

/// What a directory held.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<Value>,
}

/// How far the disk is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durable {
    pub(crate) written: u64,
    pub(crate) failed: Option<String>,
}

#[derive(Debug, Default)]
struct SyncState {
    /// Changes handed to the operating system.
    written: u64,
    file: Option<Arc<File>>,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<SyncState>,
    wake: Condvar,
}

/// The open generation.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    generation: u64,
    file: Arc<File>,
    bytes: u64,
    snapshot_at: u64,
    sequence: u64,
    failed: Option<String>,
    shared: Arc<Shared>,
    durable: watch::Receiver<Durable>,
    syncer: Option<std::thread::JoinHandle<()>>,
    /// Holds the advisory lock for as long as the journal lives.
    _lock: File,
}

/// A journal of this size is folded into a snapshot; a quickstart writes about 300 KB until Ready.
const SNAPSHOT_BYTES: u64 = 8 << 20;

impl Journal {
    /// Opens (or creates) the journal in `directory` and takes its lock.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Recovered), JournalError> {
        fs::create_dir_all(directory).map_err(io_error("create", directory))?;
        let lock = take_lock(directory)?;
        let generation = newest_generation(directory)?;
        let mut objects = BTreeMap::new();
        let mut revision = 0;
        let snapshot = directory.join(format!("snapshot-{generation}"));
        if generation > 0 {
            revision = read_snapshot(&snapshot, &mut objects)?;
        }
        let path = directory.join(format!("journal-{generation}"));
        let (file, bytes) = open_journal(&path, &mut objects, &mut revision)?;
        sync_directory(directory)?;
        let file = Arc::new(file);
        let shared = Arc::new(Shared::default());
        let (sender, durable) = watch::channel(Durable::default());
        let syncer = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || sync_loop(&shared, &sender)
            })
            .map_err(io_error("start the sync thread of", &path))?;
        let journal = Self {
            directory: directory.to_owned(),
            generation,
            file,
            bytes,
            snapshot_at: SNAPSHOT_BYTES,
            sequence: 0,
            failed: None,
            shared,
            durable,
            syncer: Some(syncer),
            _lock: lock,
        };
        Ok((
            journal,
            Recovered {
                revision,
                objects: objects.into_values().collect(),
            },
        ))
    }

    pub(crate) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    pub(crate) fn wants_snapshot(&self) -> bool {
        self.bytes >= self.snapshot_at
    }

    /// Hands one change to the operating system; returns its sequence number, to wait for.
    pub(crate) fn append(&mut self, record: &Record) -> Result<u64, JournalError> {
        if let Some(reason) = &self.failed {
            return Err(JournalError::Failed(reason.clone()));
        }
        let payload = encode(record);
        match write_frame(&mut &*self.file, &payload) {
            Ok(length) => {
                self.bytes += length;
                self.sequence += 1;
                let mut state = self.shared.state.lock();
                state.written = self.sequence;
                state.file = Some(Arc::clone(&self.file));
                self.shared.wake.notify_one();
                Ok(self.sequence)
            }
            Err(source) => {
                // The frame may be half written; appending after it would hide everything that follows.
                self.failed = Some(source.to_string());
                Err(JournalError::Io {
                    action: "append to the journal in",
                    path: self.directory.clone(),
                    source,
                })
            }
        }
    }

    /// Starts a new generation that begins with all `objects`.
    pub(crate) fn snapshot<'v>(
        &mut self,
        revision: u64,
        objects: impl Iterator<Item = &'v Arc<Value>>,
    ) -> Result<(), JournalError> {
        let next = self.generation + 1;
        let (aside, path) = (
            self.directory.join("snapshot.tmp"),
            self.directory.join(format!("snapshot-{next}")),
        );
        let journal = self.directory.join(format!("journal-{next}"));
        // What the old generation holds must be durable before it can be replaced.
        self.file
            .sync_data()
            .map_err(io_error("sync the journal in", &self.directory))?;
        write_snapshot(&aside, revision, objects).map_err(io_error("write", &aside))?;
        let file = create_journal(&journal).map_err(io_error("create", &journal))?;
        fs::rename(&aside, &path).map_err(io_error("rename a snapshot to", &path))?;
        sync_directory(&self.directory)?;
        let old = self.generation;
        (self.generation, self.file, self.bytes) = (next, Arc::new(file), 8);
        for stale in [format!("snapshot-{old}"), format!("journal-{old}")] {
            let stale = self.directory.join(stale);
            match fs::remove_file(&stale) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    tracing::warn!(path = %stale.display(), error = %e, "failed to remove an old generation");
                }
            }
        }
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(syncer) = self.syncer.take()
            && syncer.join().is_err()
        {
            tracing::error!("the journal's sync thread panicked");
        }
    }
}

fn sync_loop(shared: &Shared, durable: &watch::Sender<Durable>) {
    let mut synced = 0;
    loop {
        let (written, file, stop) = {
            let mut state = shared.state.lock();
            while state.written == synced && !state.stop {
                shared.wake.wait(&mut state);
            }
            (state.written, state.file.clone(), state.stop)
        };
        if written > synced {
            let result = file.map_or(Ok(()), |file| file.sync_data());
            synced = written;
            durable.send_modify(|d| {
                d.written = written;
                if let Err(e) = result {
                    d.failed = Some(e.to_string());
                }
            });
        } else if stop {
            return;
        }
    }
}

fn encode(record: &Record) -> Vec<u8> {
    let value = match record {
        Record::Put { revision, object } => {
            json!({"op": "put", "revision": revision, "object": object})
        }
        Record::Remove {
            revision,
            api_version,
            kind,
            namespace,
            name,
        } => json!({
            "op": "remove", "revision": revision, "apiVersion": api_version, "kind": kind,
            "namespace": namespace, "name": name,
        }),
    };
    value.to_string().into_bytes()
}

type Objects = BTreeMap<(String, String, String, String), Value>;

/// Group, kind, namespace and name: what stays the same when a kind's version moves on.
fn identity(object: &Value) -> (String, String, String, String) {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let group = crate::kinds::group_of(&text("/apiVersion")).to_owned();
    (
        group,
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name"),
    )
}

fn replay(payload: &[u8], objects: &mut Objects, revision: &mut u64) -> Result<(), String> {
    let record: Value = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    *revision = record["revision"]
        .as_u64()
        .ok_or("a record without revision")?;
    match record["op"].as_str() {
        Some("put") => {
            let object = record["object"].clone();
            objects.insert(identity(&object), object);
        }
        Some("remove") => {
            let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            let group = crate::kinds::group_of(&text("apiVersion")).to_owned();
            objects.remove(&(group, text("kind"), text("namespace"), text("name")));
        }
        other => return Err(format!("a record with unknown op {other:?}")),
    }
    Ok(())
}

fn open_journal(
    path: &Path,
    objects: &mut Objects,
    revision: &mut u64,
) -> Result<(File, u64), JournalError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            return Err(JournalError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    if bytes.len() < 8 && JOURNAL_MAGIC.starts_with(&bytes) {
        // Absent, or torn while it was created: nothing was ever appended.
        let file = create_journal(path).map_err(io_error("create", path))?;
        return Ok((file, 8));
    }
    check_magic(path, &bytes, JOURNAL_MAGIC)?;
    let (frames, end) = read_frames(&bytes);
    for frame in frames {
        replay(frame, objects, revision).map_err(|reason| JournalError::Damaged {
            path: path.to_owned(),
            reason,
        })?;
    }
    let file = OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(io_error("open", path))?;
    if end < bytes.len() {
        let torn = path.with_extension("torn");
        tracing::warn!(path = %path.display(), bytes = bytes.len() - end, kept = %torn.display(), "a torn end was cut off");
        fs::write(&torn, &bytes[end..]).map_err(io_error("write", &torn))?;
        file.set_len(end as u64)
            .map_err(io_error("truncate", path))?;
        file.sync_all().map_err(io_error("sync", path))?;
    }
    Ok((file, end as u64))
}

fn create_journal(path: &Path) -> io::Result<File> {
    fs::write(path, JOURNAL_MAGIC)?;
    let file = OpenOptions::new().append(true).open(path)?;
    file.sync_all()?;
    Ok(file)
}

fn write_snapshot<'v>(
    path: &Path,
    revision: u64,
    objects: impl Iterator<Item = &'v Arc<Value>>,
) -> io::Result<()> {
    let mut out = io::BufWriter::new(File::create(path)?);
    out.write_all(SNAPSHOT_MAGIC)?;
    let mut count = 0_u64;
    for object in objects {
        write_frame(&mut out, object.to_string().as_bytes())?;
        count += 1;
    }
    write_frame(
        &mut out,
        json!({"end": count, "revision": revision})
            .to_string()
            .as_bytes(),
    )?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

fn read_snapshot(path: &Path, objects: &mut Objects) -> Result<u64, JournalError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    check_magic(path, &bytes, SNAPSHOT_MAGIC)?;
    let damaged = |reason: &str| JournalError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let (mut frames, _) = read_frames(&bytes);
    let last = frames.pop().ok_or_else(|| damaged("it is empty"))?;
    let end: Value =
        serde_json::from_slice(last).map_err(|_| damaged("its last record is not JSON"))?;
    let counted = end["end"]
        .as_u64()
        .filter(|count| *count == frames.len() as u64);
    counted.ok_or_else(|| damaged("its end is missing"))?;
    for frame in frames {
        let object: Value =
            serde_json::from_slice(frame).map_err(|_| damaged("an object is not JSON"))?;
        objects.insert(identity(&object), object);
    }
    end["revision"]
        .as_u64()
        .ok_or_else(|| damaged("it has no revision"))
}

fn check_magic(path: &Path, bytes: &[u8], expected: &[u8; 8]) -> Result<(), JournalError> {
    if bytes.starts_with(expected) {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&bytes[..bytes.len().min(8)]).into_owned();
    let expected = String::from_utf8_lossy(expected).into_owned();
    Err(JournalError::WrongFormat {
        path: path.to_owned(),
        expected,
        found,
    })
}

/// The highest generation with a snapshot; 0 is the generation that starts from nothing.
fn newest_generation(directory: &Path) -> Result<u64, JournalError> {
    let mut newest = 0;
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("snapshot-"))
            .and_then(|n| n.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(io_error("sync", directory))
}

fn take_lock(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let pid = fs::read_to_string(&path)
            .unwrap_or_default()
            .trim()
            .to_owned();
        return Err(JournalError::InUse { path, pid });
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write", &path))?;
    Ok(file)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io {
        action,
        path,
        source,
    }
}
