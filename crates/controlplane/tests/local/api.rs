//! Does the in-process API answer as a real API server does?

mod apply;
mod deletion;
pub(crate) mod fixture;
mod persistence;
mod store;
mod validation;
mod watching;
