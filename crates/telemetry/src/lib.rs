//! How does a process say what it does, and how is it told to stop?
//!
//! Logs go to standard error as text or JSON lines ([`init`]); a stop is one token that signals and the parent's
//! death cancel ([`stop_on_signals`]); metrics are a small registry that renders Prometheus' text format
//! ([`Registry`]).

mod logging;
mod metrics;
mod shutdown;

pub use logging::{FILTER_VARIABLE, FORMAT_VARIABLE, LogConfig, LogError, LogFormat, init};
pub use metrics::{Counter, Gauge, Histogram, MetricError, Registry, SERIES_MAX};
pub use shutdown::{StopError, stop_on_signals};
