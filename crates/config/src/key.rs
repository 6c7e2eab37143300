//! What does a configuration key accept, and what is said about a value or a name that is not accepted?
//!
//! The messages are those of Kafka's `ConfigDef`, since people search for them.

use std::fmt;

/// Type of a key's values, with the code DescribeConfigs uses for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Floating point number.
    Double,
    /// Texts separated by commas.
    List,
}

impl KeyType {
    /// The type's number in a DescribeConfigs response.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }

    /// Kafka's name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
        }
    }
}

/// Which values of the right type a key accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validator {
    /// All.
    Any,
    /// Integers from the bound on.
    AtLeast(i64),
    /// Integers within the bounds, both included.
    Between(i64, i64),
    /// Numbers within the bounds, both included.
    BetweenDouble(f64, f64),
    /// One of the texts.
    OneOf(&'static [&'static str]),
    /// One of the texts, in lower or upper case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of these texts, not empty.
    ListOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    Replicas,
}

/// When a change of a broker key takes effect (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only from the configuration file, at start.
    Static,
    /// At once, for one broker or for all of them.
    PerBroker,
    /// At once, for all brokers.
    ClusterWide,
}

impl Scope {
    /// Kafka's name of the update mode.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "read-only",
            Self::PerBroker => "per-broker",
            Self::ClusterWide => "cluster-wide",
        }
    }
}

/// Whether setting a key has an effect. A key that is accepted has one, every other is refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Every valid value does what Kafka's documentation says.
    Effective,
    /// Only the default behaviour exists: the default value is accepted, others are refused for this reason.
    OnlyDefault(&'static str),
    /// Refused whatever the value, for this reason.
    Refused(&'static str),
}

/// One configuration key.
#[derive(Debug, Clone, Copy)]
pub struct ConfigKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Type of its values.
    pub kind: KeyType,
    /// The value when nothing is set; `None` is Kafka's `null`.
    pub default: Option<&'static str>,
    /// Which values are accepted.
    pub validator: Validator,
    /// When a change takes effect. Topic keys are always cluster-wide.
    pub scope: Scope,
    /// Whether it has an effect.
    pub support: Support,
    /// Topic keys: the broker keys that give the default, first found wins, each with the milliseconds of its unit
    /// where it is not the topic key's own.
    pub broker_keys: &'static [(&'static str, i64)],
    /// What it does.
    pub doc: &'static str,
}

/// A key or value that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("Unknown {what} config name: {name}{}", Nearest(.nearest.as_deref()))]
    Unknown {
        /// `topic` or `broker`.
        what: &'static str,
        /// The name given.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<String>,
    },
    /// The value is not one of the key's.
    #[error("Invalid value {value} for configuration {name}: {problem}")]
    Invalid {
        /// The key.
        name: String,
        /// The value given.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A Kafka key that Tidemark does not implement, or that another field sets.
    #[error("Configuration {name} is refused: {reason}")]
    Refused {
        /// The key.
        name: String,
        /// Why.
        reason: String,
    },
    /// Only the default value of the key is implemented.
    #[error("Configuration {name} can only be {default}: {reason}")]
    OnlyDefault {
        /// The key.
        name: String,
        /// The value that is accepted.
        default: String,
        /// Why.
        reason: String,
    },
    /// A key that only takes effect at start was to be changed on a running broker.
    #[error(
        "Cannot update these configs dynamically: Set({name}); set it in the broker's file and restart"
    )]
    ReadOnly {
        /// The key.
        name: String,
    },
    /// Two valid values that contradict each other.
    #[error("{problem}")]
    Conflict {
        /// What contradicts what.
        problem: String,
    },
}

struct Nearest<'a>(Option<&'a str>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " (did you mean {name}?)"),
            None => Ok(()),
        }
    }
}

impl ConfigKey {
    /// Whether `text` is a value of this key, and one that has an effect.
    ///
    /// # Errors
    /// [`KeyError::Invalid`], [`KeyError::Refused`] or [`KeyError::OnlyDefault`].
    pub fn check(&self, text: &str) -> Result<(), KeyError> {
        if let Support::Refused(reason) = self.support {
            return Err(KeyError::Refused {
                name: self.name.to_owned(),
                reason: reason.to_owned(),
            });
        }
        self.check_value(text)
            .map_err(|problem| KeyError::Invalid {
                name: self.name.to_owned(),
                value: text.to_owned(),
                problem,
            })?;
        match self.support {
            Support::OnlyDefault(reason) if !self.is_default(text) => Err(KeyError::OnlyDefault {
                name: self.name.to_owned(),
                default: self.default.unwrap_or("unset").to_owned(),
                reason: reason.to_owned(),
            }),
            Support::OnlyDefault(_) | Support::Effective | Support::Refused(_) => Ok(()),
        }
    }

    /// Whether the key can be set at all.
    #[must_use]
    pub const fn is_settable(&self) -> bool {
        !matches!(self.support, Support::Refused(_))
    }

    fn is_default(&self, text: &str) -> bool {
        let Some(default) = self.default else {
            return false;
        };
        let text = text.trim();
        match self.kind {
            KeyType::Boolean => text.eq_ignore_ascii_case(default),
            KeyType::Int | KeyType::Long => text.parse::<i64>().ok() == default.parse().ok(),
            KeyType::Double => text.parse::<f64>().ok() == default.parse().ok(),
            KeyType::String | KeyType::List => text == default,
        }
    }

    fn check_value(&self, text: &str) -> Result<(), String> {
        let text = text.trim();
        match self.kind {
            KeyType::Boolean => parse_bool(text).map(drop),
            KeyType::Int => {
                let value = text
                    .parse::<i32>()
                    .map_err(|_| "Not a number of type INT".to_owned())?;
                self.validator.check_integer(value.into())
            }
            KeyType::Long => {
                let value = text
                    .parse::<i64>()
                    .map_err(|_| "Not a number of type LONG".to_owned())?;
                self.validator.check_integer(value)
            }
            KeyType::Double => {
                let value = text
                    .parse::<f64>()
                    .map_err(|_| "Not a number of type DOUBLE".to_owned())?;
                self.validator.check_double(value)
            }
            KeyType::String => self.validator.check_text(text),
            KeyType::List => self.validator.check_list(text),
        }
    }
}

impl Validator {
    fn check_integer(self, value: i64) -> Result<(), String> {
        let (min, max) = match self {
            Self::AtLeast(min) => (min, i64::MAX),
            Self::Between(min, max) => (min, max),
            Self::Any
            | Self::BetweenDouble(..)
            | Self::OneOf(_)
            | Self::OneOfAnyCase(_)
            | Self::ListOf(_)
            | Self::Replicas => return Ok(()),
        };
        if value < min {
            Err(format!("Value must be at least {min}"))
        } else if value > max {
            Err(format!("Value must be no more than {max}"))
        } else {
            Ok(())
        }
    }

    fn check_double(self, value: f64) -> Result<(), String> {
        let Self::BetweenDouble(min, max) = self else {
            return Ok(());
        };
        if value.is_nan() || value < min {
            Err(format!("Value must be at least {min}"))
        } else if value > max {
            Err(format!("Value must be no more than {max}"))
        } else {
            Ok(())
        }
    }

    fn check_text(self, text: &str) -> Result<(), String> {
        match self {
            Self::OneOf(known) if !known.contains(&text) => {
                Err(format!("String must be one of: {}", known.join(", ")))
            }
            Self::OneOfAnyCase(known)
                if !known.iter().any(|one| one.eq_ignore_ascii_case(text)) =>
            {
                let known = known.join(", ");
                Err(format!("String must be one of (case insensitive): {known}"))
            }
            _ => Ok(()),
        }
    }

    fn check_list(self, text: &str) -> Result<(), String> {
        let known = match self {
            Self::ListOf(known) => known,
            Self::Replicas if parse_replicas(text).is_none() => {
                return Err("must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...".to_owned());
            }
            _ => return Ok(()),
        };
        let items = split_list(text);
        if items.is_empty() {
            return Err(format!(
                "Configuration must not be empty. Valid values include: [{}]",
                known.join(", ")
            ));
        }
        for (index, item) in items.iter().enumerate() {
            if !known.contains(item) {
                return Err(format!("String must be one of: {}", known.join(", ")));
            }
            if items[..index].contains(item) {
                return Err("Configuration values must not be duplicated.".to_owned());
            }
        }
        Ok(())
    }
}

/// The items of a list value, in order, without blanks around them and without empty ones.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

/// The `(partition, broker)` of a list of replicas; no list stands for all of them.
pub(crate) fn parse_replicas(text: &str) -> Option<Option<Vec<(i32, i32)>>> {
    if text.trim() == "*" {
        return Some(None);
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let replica = |item: &&str| {
        let (partition, broker) = item.split_once(':')?;
        Some((number(partition)?, number(broker)?))
    };
    let items = split_list(text);
    let replicas: Option<Vec<_>> = items.iter().map(replica).collect();
    replicas.map(Some)
}

pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err("Expected value to be either true or false".to_owned())
    }
}

/// The one of `names` that looks most like `name`: the fewest single-character edits, and not more than a third of
/// its length.
#[must_use]
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|known| (edit_distance(name, known), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein's distance in characters; adjacent swaps count as two edits.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["retention.ms", "retention.bytes", "segment.ms"];
        assert_eq!(nearest("retention.mss", names), Some("retention.ms"));
        assert_eq!(nearest("retentoin.ms", names), Some("retention.ms"));
        assert_eq!(nearest("colour", names), None);
    }

    #[test]
    fn replicas_are_all_or_pairs_of_numbers() {
        for good in ["", "*", "0:1", " 0:1, 12:3 ,"] {
            assert_eq!(Validator::Replicas.check_list(good), Ok(()), "{good}");
        }
        for bad in ["0", "0:1,*", "a:1", "0:-1", "0:1:2", "none"] {
            assert!(Validator::Replicas.check_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_refuse_empty_unknown_and_double_items() {
        let known = Validator::ListOf(&["delete", "compact"]);
        assert_eq!(known.check_list("delete, compact"), Ok(()));
        for bad in ["", "delete,delete", "archive"] {
            assert!(known.check_list(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
