//! Does the coordinator behave as clients of the classic protocol expect?

mod fixture;
mod joining;
mod offsets;
mod persistence;
mod records;
mod static_members;
mod transactions;
