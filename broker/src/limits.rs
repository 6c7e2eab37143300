//! May this process open as many files as a broker needs?

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Files beyond which more are of no use: 6,000 partitions keep a few each, and clients one.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit of open files to the hard one: the default of 1,024 is a few hundred partitions.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_none_or(|current| current >= most) {
        return;
    }
    let raised = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => debug!(
            from = limit.current,
            to = most,
            "raised the limit of open files"
        ),
        Err(error) => {
            warn!(current = limit.current, %error, "failed to raise the limit of open files");
        }
    }
}
