//! Does a log keep what it was given, through appends, deletions, restarts and crashes?
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod fixture;

mod append_and_read;
mod checkpoints;
mod restart;
mod retention;
mod truncation;

mod producers;

mod crash;
mod model;

mod compaction;
