//! What can be wrong with bytes that claim to be a message, or with a message that wants to be bytes?

use std::fmt;

/// What is wrong at the place that a [`DecodeError`] names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// A value needs more bytes than remain.
    Truncated { needed: usize, remaining: usize },
    /// An array claims more elements than the remaining bytes can hold.
    Count { count: usize, remaining: usize },
    /// The elements of the message would take more memory than a frame of its size may.
    Memory { needed: usize, left: usize },
    /// A length is negative and not -1, or longer than the type allows.
    Length(i64),
    /// A null where the version has none.
    Null,
    /// A struct's presence byte is neither -1 nor 1 or more.
    Presence(i8),
    /// A string is not UTF-8.
    Utf8,
    /// A varint does not end within 32 bits.
    Varint,
    /// A tagged field's value did not end at the offset that its size says.
    TagEnd { stated: usize },
    /// Bytes follow the message.
    Trailing(usize),
    /// The codec does not know the version.
    Version { min: i16, max: i16 },
    /// A record key of another type than asked for.
    KeyType { want: i16, found: i16 },
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, remaining } => {
                write!(f, "needs {needed} bytes but {remaining} remain")
            }
            Self::Count { count, remaining } => {
                write!(
                    f,
                    "{count} elements cannot be in the {remaining} bytes that remain"
                )
            }
            Self::Memory { needed, left } => {
                write!(
                    f,
                    "elements need {needed} bytes of memory but the frame may use {left} more"
                )
            }
            Self::Length(length) => write!(f, "{length} is not a valid length"),
            Self::Null => f.write_str("null is not allowed here"),
            Self::Presence(byte) => write!(f, "presence byte is {byte}, want -1 or 1"),
            Self::Utf8 => f.write_str("is not UTF-8"),
            Self::Varint => f.write_str("varint is longer than 32 bits"),
            Self::TagEnd { stated } => {
                write!(f, "tagged field should end at offset {stated} by its size")
            }
            Self::Trailing(count) => write!(f, "{count} bytes follow the message"),
            Self::Version { min, max } => write!(f, "version is not in {min}-{max}"),
            Self::KeyType { want, found } => write!(f, "key type is {found}, want {want}"),
        }
    }
}

/// Bytes that are not a message of the version: which message, which field, at which offset, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    message: &'static str,
    version: i16,
    path: String,
    offset: usize,
    kind: DecodeErrorKind,
}

impl DecodeError {
    pub(crate) fn new(kind: DecodeErrorKind, field: &str, offset: usize) -> Self {
        Self(Box::new(Inner {
            message: "",
            version: -1,
            path: field.to_owned(),
            offset,
            kind,
        }))
    }

    /// Puts the field (and the element of it) that was being read in front of the path.
    #[cold]
    pub(crate) fn within(mut self, field: &str, index: Option<usize>, is_struct: bool) -> Self {
        let inner = if is_struct && !self.0.path.is_empty() {
            format!(".{}", self.0.path)
        } else {
            String::new()
        };
        let index = index.map_or_else(String::new, |i| format!("[{i}]"));
        self.0.path = format!("{field}{index}{inner}");
        self
    }

    #[cold]
    pub(crate) fn of(mut self, message: &'static str, version: i16) -> Self {
        self.0.message = message;
        self.0.version = version;
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.0.kind
    }

    /// The message's name.
    #[must_use]
    pub fn message(&self) -> &'static str {
        self.0.message
    }

    /// The field, such as `topic_data[0].partition_data[2].records`; empty when no field is to blame.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Where in the bytes given to the decoder, counted from 0.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.0.offset
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            message,
            version,
            path,
            offset,
            kind,
        } = &*self.0;
        write!(
            f,
            "failed to decode {message} v{version} at offset {offset}"
        )?;
        if !path.is_empty() {
            write!(f, ", field {path}")?;
        }
        write!(f, ": {kind}")
    }
}

impl std::error::Error for DecodeError {}

/// A message that cannot be written at a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The codec does not know the version.
    #[error("failed to encode {message}: version {version} is not in {min}-{max}")]
    Version {
        message: &'static str,
        version: i16,
        min: i16,
        max: i16,
    },
    /// A field is set that the version has no place for.
    #[error("failed to encode {field}: it is set but version {version} does not have it")]
    NotInVersion { field: &'static str, version: i16 },
    /// A field is null that may not be in this version.
    #[error("failed to encode {field}: null is not allowed in this version")]
    Null { field: &'static str },
    /// A value is longer than its length field can say.
    #[error("failed to encode {field}: length {len} is over the limit of {max}")]
    TooLong {
        field: &'static str,
        len: usize,
        max: usize,
    },
}

impl EncodeError {
    #[cold]
    pub(crate) fn not_in_version(field: &'static str, version: i16) -> Self {
        Self::NotInVersion { field, version }
    }
}
