//! Does a log survive what disks and power supplies do? An in-memory file system that breaks things on purpose.
//!
//! It keeps two versions of everything: what the process sees and what would survive a power loss. [`FaultyVfs::crash`]
//! makes the second one out of what was synced and, drawn from the seed, a part of what was not: unsynced writes survive
//! as a prefix or singly, the last one torn; changes of a directory survive in their order. Further it tears, refuses,
//! forgets or shortens single operations as [`Faults`] says.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::vfs::{DirEntry, Vfs, VfsFile};

/// What goes wrong, and when. Operations that change something (write, truncate, sync, create, rename, remove) are
/// counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The process dies in this operation, half-way for a write; all later ones fail.
    pub crash_at: Option<u64>,
    /// The disk is full from this operation on, for `full_for` operations; a write gets a part through.
    pub full_at: Option<u64>,
    /// How many operations find the disk full.
    pub full_for: u64,
    /// This operation fails with an I/O error, after a part of a write.
    pub error_at: Option<u64>,
    /// The disk has so many bytes: it is full for a write with which the files that are there would have more.
    pub capacity: Option<u64>,
    /// One in this many syncs does nothing though it answers "done"; 0 for none.
    pub lost_sync_one_in: u64,
    /// One in this many reads returns less than it could; 0 for none.
    pub short_read_one_in: u64,
}

/// The file system. Clones share it.
#[derive(Debug, Clone)]
pub struct FaultyVfs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: Random,
    faults: Faults,
    operations: u64,
    reads: u64,
    bytes_read: u64,
    lost_syncs: u64,
    crashed: bool,
    clock_ms: i64,
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Debug, Default)]
struct FileNode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<FileChange>,
    modified_ms: i64,
}

#[derive(Debug, Clone)]
enum FileChange {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default)]
struct DirNode {
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<DirChange>,
}

#[derive(Debug, Clone)]
enum DirChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// SplitMix64: small, seedable, good enough to choose faults.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..=most`.
    fn up_to(&mut self, most: usize) -> usize {
        let bound = most as u64 + 1;
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.next().is_multiple_of(n)
    }
}

fn apply(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Write { at, bytes } => {
            if content.len() < at + bytes.len() {
                content.resize(at + bytes.len(), 0);
            }
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        FileChange::Truncate(len) => content.resize(*len, 0),
    }
}

impl DirChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

fn crashed() -> io::Error {
    io::Error::other("the process crashed")
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} is not there", path.display()),
    )
}

impl FaultyVfs {
    /// An empty file system without faults; `seed` decides all that is left to chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random: Random(seed),
                faults: Faults::default(),
                operations: 0,
                reads: 0,
                bytes_read: 0,
                lost_syncs: 0,
                crashed: false,
                clock_ms: 0,
                nodes: vec![Node::Dir(DirNode::default())],
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Sets the clock that dates the files, ms since the epoch.
    pub fn set_clock(&self, now_ms: i64) {
        self.lock().clock_ms = now_ms;
    }

    /// How many changing operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How often files were read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// How many bytes that gave.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lock().bytes_read
    }

    /// How many syncs were lost.
    #[must_use]
    pub fn lost_syncs(&self) -> u64 {
        self.lock().lost_syncs
    }

    /// Whether the process died in an operation.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Power loss and restart: what was synced is there, and a part of the rest. Faults are off afterwards.
    pub fn crash(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.crashed = false;
        state.faults = Faults::default();
        let random = &mut state.random;
        for node in &mut state.nodes {
            match node {
                Node::File(file) => {
                    survive(&mut file.durable, &file.pending, random);
                    file.pending.clear();
                    file.now.clone_from(&file.durable);
                }
                Node::Dir(dir) => {
                    let survivors = random.up_to(dir.pending.len());
                    for change in &dir.pending[..survivors] {
                        change.apply(&mut dir.durable);
                    }
                    dir.pending.clear();
                    dir.now.clone_from(&dir.durable);
                }
            }
        }
    }
}

/// Applies to `content` what survives of `pending`.
fn survive(content: &mut Vec<u8>, pending: &[FileChange], random: &mut Random) {
    if random.one_in(2) {
        let survivors = random.up_to(pending.len());
        for change in &pending[..survivors] {
            apply(content, change);
        }
        if let Some(FileChange::Write { at, bytes }) = pending.get(survivors) {
            let torn = bytes[..random.up_to(bytes.len())].to_vec();
            let at = *at;
            apply(content, &FileChange::Write { at, bytes: torn });
        }
        return;
    }
    for change in pending {
        match random.up_to(3) {
            0 => {}
            1 => {
                if let FileChange::Write { at, bytes } = change {
                    let torn = bytes[..random.up_to(bytes.len())].to_vec();
                    let at = *at;
                    apply(content, &FileChange::Write { at, bytes: torn });
                }
            }
            _ => apply(content, change),
        }
    }
}

impl State {
    /// Counts an operation; tells whether and how it fails.
    fn begin(&mut self) -> Result<(), Fault> {
        if self.crashed {
            return Err(Fault::Crash);
        }
        self.operations += 1;
        let at = self.operations;
        if self.faults.crash_at == Some(at) {
            self.crashed = true;
            return Err(Fault::Crash);
        }
        if self.faults.error_at == Some(at) {
            return Err(Fault::Error);
        }
        match self.faults.full_at {
            Some(from) if (from..from + self.faults.full_for).contains(&at) => Err(Fault::Full),
            _ => Ok(()),
        }
    }

    /// As [`Self::begin`], for what a full disk does not hinder.
    fn begin_without_space(&mut self) -> Result<(), Fault> {
        match self.begin() {
            Err(Fault::Full) => Ok(()),
            other => other,
        }
    }

    /// Bytes of the files that have a name.
    fn used(&self) -> u64 {
        let mut dirs = vec![0];
        let mut used = 0;
        while let Some(dir) = dirs.pop() {
            match &self.nodes[dir] {
                Node::File(file) => used += file.now.len() as u64,
                Node::Dir(dir) => dirs.extend(dir.now.values()),
            }
        }
        used
    }

    /// Whether the disk is too small for a file that ends at `end`.
    fn lacks_room_for(&self, node: usize, end: u64) -> Option<Fault> {
        let capacity = self.faults.capacity?;
        let Node::File(file) = &self.nodes[node] else {
            return None;
        };
        let growth = end.saturating_sub(file.now.len() as u64);
        (growth > 0 && self.used() + growth > capacity).then_some(Fault::Full)
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut node = 0;
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    let Node::Dir(dir) = &self.nodes[node] else {
                        return None;
                    };
                    node = *dir.now.get(name.to_str()?)?;
                }
                Component::RootDir => {}
                _ => return None,
            }
        }
        Some(node)
    }

    fn parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let parent = path.parent().and_then(|parent| self.find(parent));
        match (parent, name) {
            (Some(parent), Some(name)) => Ok((parent, name.to_owned())),
            _ => Err(not_found(path)),
        }
    }

    fn change(&mut self, dir: usize, change: DirChange) {
        if let Node::Dir(dir) = &mut self.nodes[dir] {
            change.apply(&mut dir.now);
            dir.pending.push(change);
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn file(&mut self, node: usize) -> io::Result<&mut FileNode> {
        match &mut self.nodes[node] {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        }
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Crash,
    Full,
    Error,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Crash => crashed(),
            Fault::Full => Self::from(io::ErrorKind::StorageFull),
            Fault::Error => Self::other("injected I/O error"),
        }
    }
}

/// A file of [`FaultyVfs`].
#[derive(Debug)]
pub struct FaultyFile {
    vfs: FaultyVfs,
    node: usize,
}

impl VfsFile for FaultyFile {
    fn read_at(&self, position: u64, max: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let mut state = self.vfs.lock();
        state.check_alive()?;
        let one_in = state.faults.short_read_one_in;
        let short = state.random.one_in(one_in);
        let position = usize::try_from(position).map_err(io::Error::other)?;
        let len = state.file(self.node)?.now.len();
        let mut n = max.min(len.saturating_sub(position));
        if short && n > 1 {
            n = 1 + state.random.up_to(n - 2);
        }
        state.reads += 1;
        state.bytes_read += n as u64;
        if n > 0 {
            let file = state.file(self.node)?;
            out.extend_from_slice(&file.now[position..position + n]);
        }
        Ok(n)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.vfs.lock();
        if state.crashed {
            return Err(crashed());
        }
        let fault = state.begin().err();
        let end = position + bytes.len() as u64;
        let fault = fault.or_else(|| state.lacks_room_for(self.node, end));
        let mut bytes = bytes.to_vec();
        if fault.is_some() {
            let part = state.random.up_to(bytes.len());
            bytes.truncate(part);
        }
        let at = usize::try_from(position).map_err(io::Error::other)?;
        let clock_ms = state.clock_ms;
        if !bytes.is_empty() {
            let file = state.file(self.node)?;
            let change = FileChange::Write { at, bytes };
            apply(&mut file.now, &change);
            file.pending.push(change);
            file.modified_ms = clock_ms;
        }
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.vfs.lock();
        state.check_alive()?;
        Ok(state.file(self.node)?.now.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.vfs.lock();
        state.begin_without_space()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let file = state.file(self.node)?;
        let change = FileChange::Truncate(len);
        apply(&mut file.now, &change);
        file.pending.push(change);
        Ok(())
    }

    fn set_modified_ms(&self, modified_ms: i64) -> io::Result<()> {
        let mut state = self.vfs.lock();
        state.check_alive()?;
        state.file(self.node)?.modified_ms = modified_ms;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.vfs.lock();
        state.begin_without_space()?;
        let one_in = state.faults.lost_sync_one_in;
        if state.random.one_in(one_in) {
            state.lost_syncs += 1;
            return Ok(());
        }
        let file = state.file(self.node)?;
        file.durable.clone_from(&file.now);
        file.pending.clear();
        Ok(())
    }
}

impl Vfs for FaultyVfs {
    type File = FaultyFile;

    fn create(&self, path: &Path) -> io::Result<FaultyFile> {
        let mut state = self.lock();
        state.begin()?;
        if let Some(node) = state.find(path) {
            let file = state.file(node)?;
            let change = FileChange::Truncate(0);
            apply(&mut file.now, &change);
            file.pending.push(change);
            let vfs = self.clone();
            return Ok(FaultyFile { vfs, node });
        }
        let (parent, name) = state.parent(path)?;
        let modified_ms = state.clock_ms;
        let node = state.add(Node::File(FileNode {
            modified_ms,
            ..FileNode::default()
        }));
        state.change(parent, DirChange::Link(name, node));
        let vfs = self.clone();
        Ok(FaultyFile { vfs, node })
    }

    fn open(&self, path: &Path) -> io::Result<FaultyFile> {
        let mut state = self.lock();
        state.check_alive()?;
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        state.file(node)?;
        let vfs = self.clone();
        Ok(FaultyFile { vfs, node })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        let (parent, name) = state.parent(from)?;
        let (to_parent, to_name) = state.parent(to)?;
        if parent != to_parent {
            return Err(io::Error::from(io::ErrorKind::CrossesDevices));
        }
        state.find(from).ok_or_else(|| not_found(from))?;
        state.change(parent, DirChange::Rename(name, to_name));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check_alive()?;
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        state.file(node)?;
        state.begin_without_space()?;
        let (parent, name) = state.parent(path)?;
        state.change(parent, DirChange::Unlink(name));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check_alive()?;
        state.find(path).ok_or_else(|| not_found(path))?;
        state.begin()?;
        let (parent, name) = state.parent(path)?;
        state.change(parent, DirChange::Unlink(name));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check_alive()?;
        if state.find(path).is_some() {
            return Ok(());
        }
        state.begin()?;
        let mut node = 0;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            let known = match &state.nodes[node] {
                Node::Dir(dir) => dir.now.get(&name).copied(),
                Node::File(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
            };
            node = match known {
                Some(known) => known,
                None => {
                    let made = state.add(Node::Dir(DirNode::default()));
                    state.change(node, DirChange::Link(name, made));
                    made
                }
            };
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.lock();
        state.check_alive()?;
        let node = state.find(dir).ok_or_else(|| not_found(dir))?;
        let Node::Dir(dir) = &state.nodes[node] else {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        };
        let entry = |(name, &node): (&String, &usize)| {
            let (is_dir, len, modified_ms) = match &state.nodes[node] {
                Node::File(file) => (false, file.now.len() as u64, file.modified_ms),
                Node::Dir(_) => (true, 0, 0),
            };
            let name = name.clone();
            DirEntry {
                name,
                is_dir,
                len,
                modified_ms,
            }
        };
        Ok(dir.now.iter().map(entry).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin_without_space()?;
        let node = state.find(dir).ok_or_else(|| not_found(dir))?;
        let one_in = state.faults.lost_sync_one_in;
        if state.random.one_in(one_in) {
            state.lost_syncs += 1;
            return Ok(());
        }
        if let Node::Dir(dir) = &mut state.nodes[node] {
            dir.durable.clone_from(&dir.now);
            dir.pending.clear();
        }
        Ok(())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = self.lock();
        state.check_alive()?;
        state.find(path).ok_or_else(|| not_found(path))?;
        let capacity = state.faults.capacity;
        Ok(capacity.map_or(u64::MAX, |bytes| bytes.saturating_sub(state.used())))
    }
}
