//! Has this disk lost anything since the broker was last registered?
//!
//! Each registration that the controller grants is written down in the data directory, with the boot of the machine's
//! kernel. A process that is killed leaves what it has written in the page cache of a kernel that goes on running; so who
//! finds the boot that it runs in itself has everything. A disk that was put back to an earlier state names an earlier
//! registration, which the controller tells from the last one. Who cannot write any more deletes the file: after a failed
//! write nobody knows what the page cache still holds (ADR 0004).
//!
//! The file is not synced: after a power loss it says nothing in any case.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use types::BrokerEpoch;
use uuid::Uuid;

const FILE: &str = "broker.registered";
/// What Linux names each of its boots. All containers of a machine share it, as they share the page cache.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file, and what it said when the process started. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RegisteredFile {
    path: PathBuf,
    /// The boot this process runs in; `None` where the kernel does not say, so that nothing is concluded from it.
    boot: Option<Uuid>,
    is_there: bool,
    intact_since: Option<BrokerEpoch>,
    /// Taken back, for as long as this process lives. Held while the file is written.
    is_void: Arc<Mutex<bool>>,
}

impl RegisteredFile {
    /// Reads the file of a data directory. One that cannot be read vouches for nothing.
    pub(crate) fn open(data: &Path) -> Self {
        Self::open_in(data, current_boot())
    }

    fn open_in(data: &Path, boot: Option<Uuid>) -> Self {
        let path = data.join(FILE);
        let text = fs::read_to_string(&path);
        let is_there = match &text {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        let said = text.ok().and_then(|text| parse(&text));
        let intact_since = said.and_then(|(epoch, then)| (boot == Some(then)).then_some(epoch));
        Self {
            path,
            boot,
            is_there,
            intact_since,
            is_void: Arc::default(),
        }
    }

    /// Whether a process before this one was registered with this disk.
    pub(crate) const fn is_there(&self) -> bool {
        self.is_there
    }

    /// The epoch of the last registration, if nothing can have been lost since.
    pub(crate) const fn intact_since(&self) -> Option<BrokerEpoch> {
        self.intact_since
    }

    /// Writes a registration down, unless that was taken back.
    ///
    /// # Errors
    /// When the file system refuses; what was written before is void then, since its epoch is an old one.
    pub(crate) fn note(&self, epoch: BrokerEpoch) -> io::Result<()> {
        let is_void = self.is_void.lock();
        if *is_void {
            return Ok(());
        }
        let boot = self.boot.map(|boot| boot.to_string()).unwrap_or_default();
        let temporary = self.path.with_extension("registered.tmp");
        fs::write(&temporary, format!("epoch={}\nboot={boot}\n", epoch.0))?;
        fs::rename(&temporary, &self.path)?;
        drop(is_void);
        Ok(())
    }

    /// Takes back what was written down: the next process must not take this disk for one that has lost nothing.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let mut is_void = self.is_void.lock();
        *is_void = true;
        let unknown = fs::write(&self.path, "epoch=\nboot=\n");
        unknown.or_else(|_| fs::remove_file(&self.path))
    }
}

/// The epoch and the boot, where both are there.
fn parse(text: &str) -> Option<(BrokerEpoch, Uuid)> {
    let value = |key: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find_map(|(name, value)| (name == key).then_some(value.trim()))
    };
    let epoch = value("epoch")?.parse().ok()?;
    let boot = Uuid::parse_str(value("boot")?).ok()?;
    Some((BrokerEpoch(epoch), boot))
}

fn current_boot() -> Option<Uuid> {
    let text = fs::read_to_string(BOOT_ID).ok()?;
    Uuid::parse_str(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(byte: u8) -> Option<Uuid> {
        Some(Uuid::from_bytes([byte; 16]))
    }

    #[test]
    fn a_registration_vouches_for_the_disk_until_the_kernel_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let new = RegisteredFile::open_in(folder.path(), boot(1));
        assert_eq!((new.is_there(), new.intact_since()), (false, None));
        new.note(BrokerEpoch(7)).unwrap();
        for (now, vouched) in [
            (boot(1), Some(BrokerEpoch(7))),
            (boot(2), None),
            (None, None),
        ] {
            let found = RegisteredFile::open_in(folder.path(), now);
            assert_eq!((found.is_there(), found.intact_since()), (true, vouched));
        }
    }

    #[test]
    fn a_kernel_without_a_name_vouches_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let nameless = RegisteredFile::open_in(folder.path(), None);
        nameless.note(BrokerEpoch(7)).unwrap();
        let found = RegisteredFile::open_in(folder.path(), None);
        assert_eq!((found.is_there(), found.intact_since()), (true, None));
    }

    #[test]
    fn who_cannot_go_on_takes_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = RegisteredFile::open_in(folder.path(), boot(1));
        file.note(BrokerEpoch(7)).unwrap();
        file.forget().unwrap();
        file.clone().note(BrokerEpoch(8)).unwrap();
        let found = RegisteredFile::open_in(folder.path(), boot(1));
        assert_eq!((found.is_there(), found.intact_since()), (true, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_boot_has_one_name_for_all_who_ask() {
        assert!(current_boot().is_some());
        assert_eq!(current_boot(), current_boot());
    }
}
