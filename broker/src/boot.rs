//! Which run of the machine's kernel is this?

use broker_core::metadata::Boot;
use uuid::Uuid;

/// What Linux names each of its boots. All containers of a machine share it, as they share the page cache.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The boot this process runs in. `None` where the kernel does not say, so that nothing is concluded from it.
pub(crate) fn current() -> Option<Boot> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    let boot = Uuid::parse_str(text.trim()).ok()?;
    Some(Boot::from_bytes(boot.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_boot_has_one_name_for_all_who_ask() {
        assert!(current().is_some());
        assert_eq!(current(), current());
    }
}
