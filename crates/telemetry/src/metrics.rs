//! How are things counted and shown to Prometheus?
//!
//! A family has fixed label names and at most [`SERIES_MAX`] label sets: what is beyond is counted in one series
//! with the label value `other`, so a metric can never grow without bound.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Label sets of one family.
pub const SERIES_MAX: usize = 1000;
const OTHER: &str = "other";

/// A name or a label that Prometheus would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    #[error(
        "failed to register the metric {0:?}: want letters, digits, '_' and ':', no digit first"
    )]
    Name(String),
    /// The name is taken by a family of another kind or with other labels.
    #[error("failed to register the metric {0:?}: the name is taken by a different family")]
    Taken(String),
}

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// How often values fell below each of some bounds.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [u64],
    counts: Vec<AtomicU64>,
    count: AtomicU64,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self(Arc::new(Buckets {
            bounds,
            counts: bounds.iter().map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }))
    }

    /// Counts `value`, in the unit of the bounds.
    pub fn observe(&self, value: u64) {
        let buckets = &self.0;
        if let Some(index) = buckets.bounds.iter().position(|bound| value <= *bound) {
            buckets.counts[index].fetch_add(1, Relaxed);
        }
        buckets.count.fetch_add(1, Relaxed);
        buckets.sum.fetch_add(value, Relaxed);
    }
}

#[derive(Debug, Clone)]
enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [u64]),
}

#[derive(Debug, Clone)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: Kind,
    labels: Vec<&'static str>,
    series: BTreeMap<Vec<String>, Series>,
}

/// All metrics of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    families: Arc<Mutex<BTreeMap<String, Family>>>,
}

impl Registry {
    /// No metrics yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of that name and those labels, made when it is new.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn counter(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Result<Counter, MetricError> {
        match self.series(name, help, Kind::Counter, labels)? {
            Series::Counter(counter) => Ok(counter),
            Series::Gauge(_) | Series::Histogram(_) => Err(MetricError::Taken(name.to_owned())),
        }
    }

    /// The gauge of that name and those labels, made when it is new.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn gauge(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Result<Gauge, MetricError> {
        match self.series(name, help, Kind::Gauge, labels)? {
            Series::Gauge(gauge) => Ok(gauge),
            Series::Counter(_) | Series::Histogram(_) => Err(MetricError::Taken(name.to_owned())),
        }
    }

    /// The histogram of that name and those labels, made when it is new, with buckets up to each of `bounds`
    /// (ascending).
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn histogram(
        &self,
        name: &str,
        help: &'static str,
        bounds: &'static [u64],
        labels: &[(&'static str, &str)],
    ) -> Result<Histogram, MetricError> {
        match self.series(name, help, Kind::Histogram(bounds), labels)? {
            Series::Histogram(histogram) => Ok(histogram),
            Series::Counter(_) | Series::Gauge(_) => Err(MetricError::Taken(name.to_owned())),
        }
    }

    fn series(
        &self,
        name: &str,
        help: &'static str,
        kind: Kind,
        labels: &[(&'static str, &str)],
    ) -> Result<Series, MetricError> {
        if !is_name(name) {
            return Err(MetricError::Name(name.to_owned()));
        }
        let names: Vec<_> = labels.iter().map(|(name, _)| *name).collect();
        // A poisoned lock only means that another thread panicked while it registered something.
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.to_owned()).or_insert_with(|| Family {
            help,
            kind: kind.clone(),
            labels: names.clone(),
            series: BTreeMap::new(),
        });
        if family.labels != names {
            return Err(MetricError::Taken(name.to_owned()));
        }
        let mut values: Vec<_> = labels
            .iter()
            .map(|(_, value)| (*value).to_owned())
            .collect();
        if !family.series.contains_key(&values) && family.series.len() >= SERIES_MAX {
            values = names.iter().map(|_| OTHER.to_owned()).collect();
        }
        let series = family.series.entry(values).or_insert_with(|| match kind {
            Kind::Counter => Series::Counter(Counter::default()),
            Kind::Gauge => Series::Gauge(Gauge::default()),
            Kind::Histogram(bounds) => Series::Histogram(Histogram::new(bounds)),
        });
        Ok(series.clone())
    }

    /// Everything in the text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        for (name, family) in families.iter() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            // Writing to a string does not fail, here and below.
            let _ = writeln!(page, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (values, series) in &family.series {
                render_series(&mut page, name, &family.labels, values, series);
            }
        }
        page
    }
}

fn render_series(
    page: &mut String,
    name: &str,
    labels: &[&'static str],
    values: &[String],
    series: &Series,
) {
    let pairs: Vec<_> = labels
        .iter()
        .zip(values)
        .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
        .collect();
    let braces = |more: Option<String>| {
        let all: Vec<_> = pairs.iter().cloned().chain(more).collect();
        if all.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", all.join(","))
        }
    };
    let plain = braces(None);
    let _ = match series {
        Series::Counter(counter) => writeln!(page, "{name}{plain} {}", counter.value()),
        Series::Gauge(gauge) => writeln!(page, "{name}{plain} {}", gauge.value()),
        Series::Histogram(Histogram(buckets)) => {
            let mut below = 0;
            for (bound, count) in buckets.bounds.iter().zip(&buckets.counts) {
                below += count.load(Relaxed);
                let labels = braces(Some(format!("le=\"{bound}\"")));
                let _ = writeln!(page, "{name}_bucket{labels} {below}");
            }
            let count = buckets.count.load(Relaxed);
            let all = braces(Some("le=\"+Inf\"".to_owned()));
            let sum = buckets.sum.load(Relaxed);
            writeln!(
                page,
                "{name}_bucket{all} {count}\n{name}_sum{plain} {sum}\n{name}_count{plain} {count}"
            )
        }
    };
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_every_kind_as_prometheus_reads_it() {
        let registry = Registry::new();
        let labels = [("kind", "Kafka\"Topic")];
        registry
            .counter("reconciles_total", "Reconciles", &labels)
            .unwrap()
            .add(2);
        registry
            .counter("reconciles_total", "Reconciles", &labels)
            .unwrap()
            .add(1);
        registry
            .gauge("queue", "Objects waiting", &[])
            .unwrap()
            .set(-4);
        let times = registry
            .histogram("took_ms", "Time", &[10, 100], &[])
            .unwrap();
        for value in [10, 11, 1000] {
            times.observe(value);
        }
        let expected = "# HELP queue Objects waiting\n# TYPE queue gauge\nqueue -4\n\
            # HELP reconciles_total Reconciles\n# TYPE reconciles_total counter\n\
            reconciles_total{kind=\"Kafka\\\"Topic\"} 3\n\
            # HELP took_ms Time\n# TYPE took_ms histogram\n\
            took_ms_bucket{le=\"10\"} 1\ntook_ms_bucket{le=\"100\"} 2\ntook_ms_bucket{le=\"+Inf\"} 3\n\
            took_ms_sum 1021\ntook_ms_count 3\n";
        assert_eq!(registry.render(), expected);
    }

    #[test]
    fn label_sets_are_bounded() {
        let registry = Registry::new();
        for topic in 0..SERIES_MAX + 50 {
            let topic = topic.to_string();
            registry
                .counter("in_total", "In", &[("topic", &topic)])
                .unwrap()
                .add(1);
        }
        let page = registry.render();
        assert_eq!(page.lines().count(), SERIES_MAX + 3);
        assert!(page.contains("in_total{topic=\"other\"} 50"), "{page}");
    }

    #[test]
    fn names_that_prometheus_would_refuse_are_refused() {
        let registry = Registry::new();
        for name in ["", "0a", "a-b", "a b"] {
            let error = registry.gauge(name, "", &[]).unwrap_err();
            assert_eq!(error, MetricError::Name(name.to_owned()));
        }
        registry.gauge("a", "", &[]).unwrap();
        assert_eq!(
            registry.counter("a", "", &[]).unwrap_err(),
            MetricError::Taken("a".to_owned())
        );
    }
}
