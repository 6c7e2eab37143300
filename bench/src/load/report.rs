//! How are the figures printed?

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::Serialize;

use super::Target;

/// One measured value.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) target: String,
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn new(target: &Target, metric: &str, unit: &'static str, value: f64) -> Self {
        Self {
            target: target.name.clone(),
            metric: metric.to_owned(),
            unit,
            value,
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

/// Prints one row a metric and one column a target: the median, and the range of all repeats.
pub(crate) fn print(figures: &[Figure]) -> std::io::Result<()> {
    let mut targets: Vec<&str> = Vec::new();
    let mut rows: Vec<(&str, &str)> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for figure in figures {
        if !targets.contains(&figure.target.as_str()) {
            targets.push(&figure.target);
        }
        if !rows.iter().any(|(metric, _)| *metric == figure.metric) {
            rows.push((&figure.metric, figure.unit));
        }
        cells
            .entry((&figure.metric, &figure.target))
            .or_default()
            .push(figure.value);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "| metric | {} |", targets.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(targets.len()))?;
    for (metric, unit) in rows {
        write!(out, "| {metric}, {unit} |")?;
        for target in &targets {
            match cells.get_mut(&(metric, *target)) {
                Some(values) => {
                    let middle = median(values);
                    write!(
                        out,
                        " {middle:.2} ({:.2}-{:.2}) |",
                        values[0],
                        values[values.len() - 1]
                    )?;
                }
                None => write!(out, " - |")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}
