//! How does a whole image become bytes, and bytes an image?
//!
//! A snapshot is the records that lead from nothing to the image, in a fixed order: equal images give equal bytes,
//! and there is one way only to read either a log or a snapshot.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{RecordError, decode_records, encode_records};
use super::image::{MetadataImage, TopicsVersion};
use super::record::{BrokerEpochs, Config, FeatureLevel, MetadataRecord, Partition, Topic};
use super::replay::ReplayError;

/// First bytes of a snapshot: a name and the version of this layout.
const MAGIC: &[u8; 8] = b"TMMETA\0\x01";
const HEADER: usize = 16;

/// Bytes that are not a snapshot this build can load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The header is missing or of another version.
    #[error("failed to load a metadata snapshot of {length} bytes: not a snapshot of this version")]
    Header {
        /// Bytes there are.
        length: usize,
    },
    /// A record could not be decoded.
    #[error("failed to load a metadata snapshot")]
    Record(#[from] RecordError),
    /// A record did not fit.
    #[error("failed to load a metadata snapshot")]
    Replay(#[from] ReplayError),
}

impl MetadataImage {
    /// The records that lead from nothing to this image.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        for (name, level) in &self.features {
            records.push(MetadataRecord::FeatureLevel(FeatureLevel {
                name: name.clone(),
                level: *level,
            }));
        }
        if self.last_broker_epoch.0 > 0 {
            records.push(MetadataRecord::BrokerEpochs(BrokerEpochs {
                last: self.last_broker_epoch,
            }));
        }
        for broker in self.brokers.values() {
            records.push(MetadataRecord::RegisterBroker(broker.to_record()));
        }
        for topic in self.topics.values() {
            records.push(MetadataRecord::Topic(Topic {
                name: topic.name.clone(),
                topic_id: topic.id,
            }));
            for (partition, registration) in topic.iter() {
                records.push(MetadataRecord::Partition(Partition {
                    topic_id: topic.id,
                    partition,
                    registration: registration.as_ref().clone(),
                }));
            }
        }
        for (resource, map) in &self.configs {
            for (name, value) in map.iter() {
                records.push(MetadataRecord::Config(Config {
                    resource: resource.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                }));
            }
        }
        records.extend(self.producer_ids.clone().map(MetadataRecord::ProducerIds));
        records
    }

    /// The bytes of this image. Equal images give equal bytes.
    #[must_use]
    pub fn to_snapshot(&self) -> Bytes {
        let records = encode_records(&self.to_records());
        let mut buffer = BytesMut::with_capacity(HEADER + records.len());
        buffer.put_slice(MAGIC);
        buffer.put_u64(self.offset);
        buffer.put_slice(&records);
        buffer.freeze()
    }

    /// The image of these bytes.
    ///
    /// # Errors
    /// [`SnapshotError`] for bytes that this build did not write, or cannot read.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let header = || SnapshotError::Header {
            length: bytes.len(),
        };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(header)?;
        let (offset, rest) = rest.split_first_chunk::<8>().ok_or_else(header)?;
        let mut image = Self::empty();
        image.speculate(&decode_records(rest)?)?;
        image.offset = u64::from_be_bytes(*offset);
        image.topics_version = TopicsVersion(image.offset);
        Ok(image)
    }
}
