//! How many reconciles ran, failed, and how long did they take?

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of one controller.
#[derive(Debug, Default)]
pub(crate) struct ControllerMetrics {
    total: AtomicU64,
    failed: AtomicU64,
    micros: AtomicU64,
}

/// Counters of the operator.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) cluster: ControllerMetrics,
    pub(crate) topic: ControllerMetrics,
}

impl ControllerMetrics {
    pub(crate) fn observe(&self, took: Duration, failed: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.micros.fetch_add(
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

impl Metrics {
    /// The Prometheus text form.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let controllers = [("kafkacluster", &self.cluster), ("kafkatopic", &self.topic)];
        text.push_str("# HELP tidemark_operator_reconciles_total Reconciles by controller and result.\n# TYPE tidemark_operator_reconciles_total counter\n");
        for (name, metrics) in controllers {
            let failed = metrics.failed.load(Ordering::Relaxed);
            let ok = metrics.total.load(Ordering::Relaxed).saturating_sub(failed);
            for (result, count) in [("ok", ok), ("error", failed)] {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "tidemark_operator_reconciles_total{{controller=\"{name}\",result=\"{result}\"}} {count}"
                );
            }
        }
        text.push_str("# HELP tidemark_operator_reconcile_seconds_total Time spent in reconciles.\n# TYPE tidemark_operator_reconcile_seconds_total counter\n");
        for (name, metrics) in controllers {
            let micros = metrics.micros.load(Ordering::Relaxed);
            let _ = writeln!(
                text,
                "tidemark_operator_reconcile_seconds_total{{controller=\"{name}\"}} {}.{:06}",
                micros / 1_000_000,
                micros % 1_000_000
            );
        }
        text
    }
}
