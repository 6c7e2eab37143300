//! What must a broker decide, apart from how it does it?
//!
//! Synchronous state machines without I/O, clock or randomness of their own.

pub mod metadata;

pub mod controller;

pub mod partition;

pub mod cleaning;

pub mod group;

pub mod txn;
