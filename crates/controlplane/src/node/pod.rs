//! How does one pod run on this machine, from its spec to its child processes and back to its status?

pub(crate) mod environment;
pub(crate) mod mounts;
pub(crate) mod probes;
pub(crate) mod process;
pub(crate) mod status;
pub(crate) mod unsupported;
pub(crate) mod volumes;
pub(crate) mod worker;
