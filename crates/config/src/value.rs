//! How does the text of a configuration value become a typed one?

use crate::key::{ConfigKey, KeyError, KeyType, parse_bool, parse_replicas, split_list};

/// A type that configuration values are read into.
pub trait ConfigValue: Sized {
    /// Kafka's type of such values.
    const KIND: KeyType;

    /// Reads a value that the key's validator has already accepted; `None` where it cannot be read all the same.
    fn read(text: &str) -> Option<Self>;

    /// What stands for a key with no value and no default.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! parsed {
    ($($ty:ty => $kind:ident),*) => {
        $(impl ConfigValue for $ty {
            const KIND: KeyType = KeyType::$kind;

            fn read(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
        })*
    };
}
parsed!(i32 => Int, i64 => Long, f64 => Double, String => String);

impl ConfigValue for bool {
    const KIND: KeyType = KeyType::Boolean;

    fn read(text: &str) -> Option<Self> {
        parse_bool(text.trim()).ok()
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const KIND: KeyType = T::KIND;

    fn read(text: &str) -> Option<Self> {
        T::read(text).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// `compression.type` of a topic: what the broker stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompressionType {
    /// What the producer sent.
    Producer,
    /// Recompressed by the broker to this codec where the producer used another.
    Codec(types::batch::Compression),
}

impl ConfigValue for CompressionType {
    const KIND: KeyType = KeyType::String;

    fn read(text: &str) -> Option<Self> {
        use types::batch::Compression;
        Some(match text.trim() {
            "producer" => Self::Producer,
            "uncompressed" => Self::Codec(Compression::None),
            "gzip" => Self::Codec(Compression::Gzip),
            "snappy" => Self::Codec(Compression::Snappy),
            "lz4" => Self::Codec(Compression::Lz4),
            "zstd" => Self::Codec(Compression::Zstd),
            _ => return None,
        })
    }
}

/// `message.timestamp.type` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's clock.
    CreateTime,
    /// The leader's clock at append.
    LogAppendTime,
}

impl ConfigValue for TimestampType {
    const KIND: KeyType = KeyType::String;

    fn read(text: &str) -> Option<Self> {
        match text.trim() {
            "CreateTime" => Some(Self::CreateTime),
            "LogAppendTime" => Some(Self::LogAppendTime),
            _ => None,
        }
    }
}

/// `replica.selector.class`: from which replica a client reads (KIP-392).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaSelector {
    /// The leader.
    Leader,
    /// One in the client's rack, if there is one in sync.
    RackAware,
}

impl ReplicaSelector {
    /// Kafka's names of the classes.
    pub(crate) const CLASSES: &[&str] = &[
        "org.apache.kafka.common.replica.LeaderSelector",
        "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    ];
}

impl ConfigValue for ReplicaSelector {
    const KIND: KeyType = KeyType::String;

    fn read(text: &str) -> Option<Self> {
        let selectors = [Self::Leader, Self::RackAware];
        let class = Self::CLASSES
            .iter()
            .position(|class| *class == text.trim())?;
        selectors.get(class).copied()
    }
}

/// `group.consumer.migration.policy`: which way a group may change its protocol while it has members (KIP-848).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MigrationPolicy {
    /// No way.
    Disabled,
    /// From the consumer protocol to the classic one.
    Downgrade,
    /// From the classic protocol to that of consumer groups.
    Upgrade,
    /// Both ways.
    Bidirectional,
}

impl MigrationPolicy {
    /// Kafka's names.
    pub(crate) const NAMES: &[&str] = &["disabled", "downgrade", "upgrade", "bidirectional"];

    /// Whether a classic group with members may become a consumer group.
    #[must_use]
    pub const fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether a consumer group with members may become a classic one.
    #[must_use]
    pub const fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }

    /// Whether new members of the classic protocol get into a consumer group.
    #[must_use]
    pub const fn admits(self) -> bool {
        !matches!(self, Self::Disabled)
    }
}

impl ConfigValue for MigrationPolicy {
    const KIND: KeyType = KeyType::String;

    fn read(text: &str) -> Option<Self> {
        let all = [
            Self::Disabled,
            Self::Downgrade,
            Self::Upgrade,
            Self::Bidirectional,
        ];
        let mut names = Self::NAMES.iter();
        let at = names.position(|name| name.eq_ignore_ascii_case(text.trim()))?;
        all.get(at).copied()
    }
}

/// `cleanup.policy` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CleanupPolicy {
    /// Old segments are deleted by time and size.
    pub delete: bool,
    /// Only the last record of each key is kept.
    pub compact: bool,
}

impl ConfigValue for CleanupPolicy {
    const KIND: KeyType = KeyType::List;

    fn read(text: &str) -> Option<Self> {
        let items = split_list(text);
        Some(Self {
            delete: items.contains(&"delete"),
            compact: items.contains(&"compact"),
        })
    }
}

/// `group.consumer.assignors`: their names, the default first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerAssignors(pub Vec<String>);

impl ConfigValue for ConsumerAssignors {
    const KIND: KeyType = KeyType::List;

    fn read(text: &str) -> Option<Self> {
        let names = split_list(text).into_iter().map(str::to_owned);
        Some(Self(names.collect()))
    }
}

/// `*.replication.throttled.replicas` of a topic (KIP-73).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThrottledReplicas {
    /// All of the topic.
    All,
    /// These, by partition and broker.
    Listed(Vec<(i32, i32)>),
}

impl ThrottledReplicas {
    /// Whether the replica of `partition` on `broker` is one of them.
    #[must_use]
    pub fn contains(&self, partition: i32, broker: i32) -> bool {
        match self {
            Self::All => true,
            Self::Listed(replicas) => replicas.contains(&(partition, broker)),
        }
    }
}

impl ConfigValue for ThrottledReplicas {
    const KIND: KeyType = KeyType::List;

    fn read(text: &str) -> Option<Self> {
        Some(parse_replicas(text)?.map_or(Self::All, Self::Listed))
    }
}

/// Reads `text` (or the key's default) as a `T`, checked by the key's validator.
pub(crate) fn read<T: ConfigValue>(key: &ConfigKey, text: Option<&str>) -> Result<T, KeyError> {
    let invalid = |value: &str| KeyError::Invalid {
        name: key.name.to_owned(),
        value: value.to_owned(),
        problem: format!("Not a value of type {}", key.kind.name()),
    };
    match text.or(key.default) {
        Some(text) => {
            key.check(text)?;
            T::read(text).ok_or_else(|| invalid(text))
        }
        None => T::absent().ok_or_else(|| invalid("null")),
    }
}

/// Declares a table of keys and the struct that holds their typed values, one line each.
macro_rules! keys {
    (
        $(#[$struct_doc:meta])*
        struct $Struct:ident;
        $(#[$table_doc:meta])*
        table $TABLE:ident;
        $(
            $(#[doc = $doc:literal])+
            $field:ident: $ty:ty = $name:literal $default:expr, $validator:expr, $scope:ident, $support:expr $(, from $broker:expr)?;
        )+
    ) => {
        $(#[$struct_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Struct {
            $(
                $(#[doc = $doc])+
                pub $field: $ty,
            )+
        }

        $(#[$table_doc])*
        pub const $TABLE: &[$crate::key::ConfigKey] = &[$(
            $crate::key::ConfigKey {
                name: $name,
                kind: <$ty as $crate::value::ConfigValue>::KIND,
                default: $default,
                validator: $validator,
                scope: $crate::key::Scope::$scope,
                support: $support,
                broker_keys: keys!(@broker $($broker)?),
                doc: concat!($($doc),+),
            },
        )+];

        impl $Struct {
            /// Reads every key: the text that `get` gives for it, or else its default.
            ///
            /// # Errors
            /// The first value that its key does not accept.
            pub fn read(
                mut get: impl FnMut(&'static $crate::key::ConfigKey) -> Option<String>,
            ) -> Result<Self, $crate::key::KeyError> {
                let mut keys = $TABLE.iter();
                Ok(Self {
                    $($field: {
                        let key = keys.next().expect("the table has one entry for each field");
                        $crate::value::read::<$ty>(key, get(key).as_deref())?
                    },)+
                })
            }
        }
    };
    (@broker) => { &[] };
    (@broker $broker:expr) => { $broker };
}
pub(crate) use keys;
