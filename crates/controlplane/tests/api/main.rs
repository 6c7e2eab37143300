//! Does the in-process API answer as a real API server does?

#![recursion_limit = "256"]

mod apply;
mod deletion;
mod fixture;
mod persistence;
mod store;
mod validation;
mod watching;
