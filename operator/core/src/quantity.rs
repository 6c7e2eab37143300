//! How much is a Kubernetes quantity such as `10Gi` or `500m`?

/// What a suffix multiplies by, in billionths, so that the smallest (`n`) is whole.
const SUFFIXES: &[(&str, u128)] = &[
    ("Ki", (1 << 10) * 1_000_000_000),
    ("Mi", (1 << 20) * 1_000_000_000),
    ("Gi", (1 << 30) * 1_000_000_000),
    ("Ti", (1 << 40) * 1_000_000_000),
    ("Pi", (1 << 50) * 1_000_000_000),
    ("Ei", (1 << 60) * 1_000_000_000),
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("k", 1_000_000_000_000),
    ("M", 1_000_000_000_000_000),
    ("G", 1_000_000_000_000_000_000),
    ("T", 1_000_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000_000_000),
    ("", 1_000_000_000),
];

/// The amount in billionths of the base unit (bytes, cores). `None` for text that is no quantity, is negative, or is too large to matter.
#[must_use]
pub fn parse(text: &str) -> Option<u128> {
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E'])
        && let Ok(exponent) = exponent.parse::<u32>()
    {
        return decimal(
            mantissa,
            10_u128.checked_pow(exponent)?.checked_mul(1_000_000_000)?,
        );
    }
    let (suffix, factor) = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    decimal(text.strip_suffix(suffix)?, *factor)
}

/// `1.5` times `factor`; what is finer than a billionth is cut off.
fn decimal(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits.parse::<u128>().ok()?.checked_mul(factor)? / scale)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn equal_amounts_are_equal_however_they_are_written() {
        for (a, b) in [
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1k", "1000"),
            ("1e3", "1k"),
            ("2E3", "2000"),
            ("500m", "0.5"),
            ("1E", "1000P"),
        ] {
            assert_eq!(parse(a), parse(b), "{a} {b}");
            assert!(parse(a).is_some(), "{a}");
        }
        assert!(parse("10Gi") > parse("10G"));
    }

    #[test]
    fn nonsense_is_no_quantity() {
        for text in ["", "Gi", "ten", "-1Gi", "1.2.3", "1e99", "0x10", "1 Gi"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
