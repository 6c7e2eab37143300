//! How much is a Kubernetes quantity such as `10Gi` or `500m`?

use serde_json::Value;

const SUFFIXES: &[(&str, f64)] = &[
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The amount in base units (bytes, cores), or `None` for text that is no quantity.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(plain) = text.parse::<f64>() {
        return plain.is_finite().then_some(plain);
    }
    let (suffix, factor) = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number = text.strip_suffix(suffix)?.parse::<f64>().ok()?;
    number.is_finite().then_some(number * factor)
}

/// The amount of a JSON quantity: text or a plain number.
pub(crate) fn of(value: &Value) -> Option<f64> {
    value.as_str().map_or_else(|| value.as_f64(), parse)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn suffixes_scale_and_nonsense_is_refused() {
        for (text, want) in [
            ("10Gi", Some(10_737_418_240.0)),
            ("500m", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("7", Some(7.0)),
            ("ten", None),
            ("Gi", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
