//! Which transactional ids does somebody who lists them mean (KIP-1152)?

use regex::{Regex, RegexBuilder};
use types::ErrorCode;

/// How large a compiled pattern may be.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression in the syntax of RE2, for the whole of an id.
#[derive(Debug)]
pub struct IdPattern(Option<Regex>);

impl IdPattern {
    /// Without a pattern, or with an empty one, all ids are meant.
    ///
    /// # Errors
    /// `INVALID_REGULAR_EXPRESSION`
    pub fn new(pattern: Option<&str>) -> Result<Self, ErrorCode> {
        let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else {
            return Ok(Self(None));
        };
        // Built as it was sent, too: brackets that do not match must not do so with those around the whole.
        let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
        let whole = build(pattern).and_then(|_| build(&format!("^(?:{pattern})$")));
        whole
            .map(|whole| Self(Some(whole)))
            .map_err(|_| ErrorCode::InvalidRegularExpression)
    }

    /// Whether the id is meant.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        self.0.as_ref().is_none_or(|whole| whole.is_match(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_the_whole_of_an_id() {
        for (pattern, id, wanted) in [
            (None, "orders-1", true),
            (Some(""), "orders-1", true),
            (Some("orders-.*"), "orders-1", true),
            (Some("orders"), "orders-1", false),
            (Some("a|orders-1"), "orders-1", true),
            (Some("a|orders"), "orders-1", false),
        ] {
            let parsed = IdPattern::new(pattern).unwrap();
            assert_eq!(parsed.matches(id), wanted, "{pattern:?}");
        }
        for broken in ["orders-(", "a)|(b"] {
            let refused = IdPattern::new(Some(broken)).unwrap_err();
            assert_eq!(refused, ErrorCode::InvalidRegularExpression);
        }
    }
}
