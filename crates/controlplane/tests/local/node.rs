//! Does the node agent run pods as a kubelet would, with nothing but child processes?

pub(crate) mod fixture;
mod lifecycle;
mod restarts;
mod wiring;
