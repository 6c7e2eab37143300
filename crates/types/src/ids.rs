//! Which numbers and names identify nodes, topics, partitions, epochs and producers?

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// A node of the cluster (Kafka's `node.id` / `broker.id`); unique, assigned by the operator.
    NodeId(i32)
);
number!(
    /// Position of a record in a partition's log, counted in records from 0.
    Offset(i64)
);
number!(
    /// How many times leadership of a partition was decided (KIP-101).
    LeaderEpoch(i32)
);
number!(
    /// How many times anything in a partition's registration changed (KIP-497's compare-and-set).
    PartitionEpoch(i32)
);
number!(
    /// One registration of one broker incarnation (KIP-380/KIP-631): each is larger than all before it.
    BrokerEpoch(i64)
);
number!(
    /// Identity of an idempotent producer (KIP-98).
    ProducerId(i64)
);
number!(
    /// Incarnation of an idempotent producer (KIP-98), bumped to fence the older one.
    ProducerEpoch(i16)
);

impl Offset {
    /// The offset `records` further on.
    #[must_use]
    pub const fn plus(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

impl LeaderEpoch {
    /// The epoch of the next leadership decision.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl PartitionEpoch {
    /// The epoch after one more change of the partition's registration.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A topic's (or cluster's) identity that survives its name: a UUID, written as Kafka does in
/// 22 characters of unpadded URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The all-zero id, which on the wire means "not given".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is the all-zero id.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// The text was not 22 characters of unpadded URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to read the id {text:?}: want 22 characters of unpadded URL-safe base64 (16 bytes)"
)]
pub struct IdError {
    text: String,
}

impl FromStr for TopicId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || IdError {
            text: text.to_owned(),
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| error())?;
        Ok(Self(bytes.try_into().map_err(|_| error())?))
    }
}

impl Serialize for TopicId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A partition of a topic, by the topic's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    /// `TOPIC-PARTITION`, which is also the name of its log directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_written_as_kafka_writes_it() {
        // The metadata topic's well-known id is 0x...01, which Kafka prints like this.
        let mut bytes = [0; 16];
        bytes[15] = 1;
        let id = TopicId(bytes);
        assert_eq!(id.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ".parse::<TopicId>(), Ok(id));
    }

    #[test]
    fn a_malformed_topic_id_is_refused_with_the_text() {
        for text in [
            "",
            "short",
            "AAAAAAAAAAAAAAAAAAAAAQ==",
            "!!!!!!!!!!!!!!!!!!!!!!",
        ] {
            let error = text.parse::<TopicId>().expect_err(text);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
