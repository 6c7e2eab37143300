//! Do the controllers keep their promises, against an API with live watches?
//!
//! Real are the controllers, every request and every watch, and the API: in this process by default, a kube-apiserver with its own
//! controllers when `TIDEMARK_TEST_KUBECONFIG` names one. Doubles stand in for Kafka ([`kafka`]: stateful, with Kafka's refusals) and for
//! what runs pods ([`machine`]). A layer around the operator's client ([`rights`]) holds every request against the printed ClusterRole.
//!
//! A scenario is an async function of a namespace. [`scenarios`] lists them all; each is a test of its own, and [`faults`] runs all of
//! them in one world whose API fails at random.

mod world;

mod kafka;
mod machine;
mod namespace;
mod real;
mod rights;
mod samples;

mod scenarios;

mod deletion;
mod drift;
mod objects;
mod reports;
mod roll;
mod storage;
mod topics;

mod faults;
mod quiet;
