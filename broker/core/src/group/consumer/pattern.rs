//! Which names does a regular expression stand for?

use std::collections::BTreeSet;

use regex::bytes::{Regex, RegexBuilder};
use types::ErrorCode;

use super::request::Rejection;
use super::topics::Topics;

/// The longest expression that a member may bring, in bytes: four times the longest name of a topic.
const MAX_LENGTH: usize = 1024;
/// The most memory a compiled expression may take. Names of topics need little; a repetition that is nested could take
/// all there is.
const MAX_PROGRAM: usize = 64 << 10;
/// The most memory that matching may take beside it.
const MAX_DFA: usize = 256 << 10;

/// An expression that a whole name has to match.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// What a member asks for.
    pub(super) fn of_member(regex: &str) -> Result<Self, Rejection> {
        if regex.len() > MAX_LENGTH {
            let message = format!(
                "the regular expression has {} bytes, {MAX_LENGTH} are allowed",
                regex.len()
            );
            return Err(Rejection::new(ErrorCode::InvalidRegularExpression, message));
        }
        Self::compile(regex)
    }

    /// What the log holds: one that a member of another coordinator brought may be longer, but not larger.
    pub(super) fn compile(regex: &str) -> Result<Self, Rejection> {
        // Alone first, so that it cannot close the group it is put into.
        let alone = build(regex).and_then(|_| build(&format!("^(?:{regex})$")));
        alone.map(Self).map_err(|error| {
            let message = format!("`{regex}` is not a valid regular expression: {error}");
            Rejection::new(ErrorCode::InvalidRegularExpression, message)
        })
    }

    /// The names of the topics that match.
    pub(super) fn matching(&self, topics: &dyn Topics) -> BTreeSet<String> {
        let names = topics.names();
        let matching = names.filter(|name| self.0.is_match(name.as_bytes()));
        matching.map(str::to_owned).collect()
    }
}

/// Names of topics are ASCII, of which `\w` needs a hundredth of the room that it needs of Unicode; only an expression
/// that names properties of Unicode is built with it.
fn build(regex: &str) -> Result<Regex, regex::Error> {
    let mut builder = RegexBuilder::new(regex);
    builder.size_limit(MAX_PROGRAM).dfa_size_limit(MAX_DFA);
    (builder.unicode(false).build()).or_else(|_| builder.unicode(true).build())
}
