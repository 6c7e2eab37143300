//! Which loopback address does each pod have, now and after every restart?

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Addresses that cannot be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The table cannot be read or written.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The table is not ours.
    #[error("{path} is not an address table: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Every address of the block belongs to a pod that exists.
    #[error("no loopback address is left above {base} for pod {pod}: all {count} are in use")]
    Exhausted {
        /// First address of the block.
        base: Ipv4Addr,
        /// Who asked.
        pod: String,
        /// How many there are.
        count: usize,
    },
}

/// How many addresses one data directory hands out; more pods than this on one machine are a mistake.
const BLOCK: u32 = 254;

/// The persisted table from `namespace/pod` to address.
#[derive(Debug)]
pub(crate) struct Addresses {
    path: PathBuf,
    base: Ipv4Addr,
    table: BTreeMap<String, Ipv4Addr>,
}

impl Addresses {
    /// Reads the table, or starts an empty one.
    pub(crate) fn open(directory: &Path, base: Ipv4Addr) -> Result<Self, AddressError> {
        let path = directory.join("addresses.json");
        let table = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| AddressError::Damaged {
                path: path.clone(),
                reason: e.to_string(),
            })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => {
                return Err(AddressError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        Ok(Self { path, base, table })
    }

    /// The address of a pod: the one it always had (unless the base moved), else the lowest free one. `exists` tells
    /// which pods may not lose theirs when the block is full.
    pub(crate) fn of(
        &mut self,
        pod: &str,
        exists: impl Fn(&str) -> bool,
    ) -> Result<Ipv4Addr, AddressError> {
        if let Some(address) = self.table.get(pod).filter(|a| self.in_block(**a)) {
            return Ok(*address);
        }
        let address = match self.lowest_free() {
            Some(free) => free,
            None => {
                self.table.retain(|name, _| exists(name));
                self.lowest_free().ok_or_else(|| AddressError::Exhausted {
                    base: self.base,
                    pod: pod.to_owned(),
                    count: BLOCK as usize,
                })?
            }
        };
        self.table.insert(pod.to_owned(), address);
        self.save()?;
        Ok(address)
    }

    /// How many addresses of the block come before this one.
    pub(crate) fn index(&self, address: Ipv4Addr) -> u16 {
        let offset = u32::from(address).wrapping_sub(u32::from(self.base));
        u16::try_from(offset.saturating_sub(1)).unwrap_or(u16::MAX)
    }

    fn nth(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::from(self.base).wrapping_add(index))
    }

    fn in_block(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.base));
        (1..=BLOCK).contains(&offset)
    }

    fn lowest_free(&self) -> Option<Ipv4Addr> {
        (1..=BLOCK)
            .map(|index| self.nth(index))
            .find(|address| !self.table.values().any(|used| used == address))
    }

    fn save(&self) -> Result<(), AddressError> {
        let io = |action| {
            let path = self.path.clone();
            move |source| AddressError::Io {
                action,
                path,
                source,
            }
        };
        let text = serde_json::to_vec_pretty(&self.table).map_err(|e| io("encode")(e.into()))?;
        replace_file(&self.path, &text).map_err(io("write"))
    }
}

/// Writes a file so that readers see the old or the new content, never a mix.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(content)?;
    file.sync_data()?;
    std::fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_its_address_across_restarts_and_others_get_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let base = Ipv4Addr::new(127, 0, 10, 0);
        let mut first = Addresses::open(directory.path(), base).unwrap();
        let a = first.of("default/a", |_| true).unwrap();
        let b = first.of("default/b", |_| true).unwrap();
        assert_eq!(
            (a, b),
            (Ipv4Addr::new(127, 0, 10, 1), Ipv4Addr::new(127, 0, 10, 2))
        );
        let mut second = Addresses::open(directory.path(), base).unwrap();
        assert_eq!(second.of("default/b", |_| true).unwrap(), b);
    }

    #[test]
    fn a_full_block_takes_back_the_addresses_of_pods_that_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut table = Addresses::open(directory.path(), Ipv4Addr::new(127, 0, 10, 0)).unwrap();
        for index in 0..BLOCK {
            table.of(&format!("default/p{index}"), |_| true).unwrap();
        }
        assert!(matches!(
            table.of("default/new", |_| true),
            Err(AddressError::Exhausted { .. })
        ));
        let freed = table
            .of("default/new", |name| name != "default/p7")
            .unwrap();
        assert_eq!(freed, Ipv4Addr::new(127, 0, 10, 8));
    }
}
