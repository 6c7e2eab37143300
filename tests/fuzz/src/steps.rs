//! Which requests does an input stand for, and what do they look like on a connection?

use bytes::{BufMut, BytesMut};
use wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use wire::messages::{ProduceRequest, RequestHeader};
use wire::{ApiKey, Message, Request};

use crate::batches::sealed;

/// An API and the versions that the codec knows.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// Its number.
    pub key: ApiKey,
    /// The oldest version.
    pub first: i16,
    /// The newest version.
    pub last: i16,
}

macro_rules! table {
    ($($api:ident, $request:ident, $response:ident, $a:ident, $b:ident;)*) => {
        /// Every API.
        #[must_use]
        pub fn apis() -> Vec<Api> {
            vec![$(Api {
                key: <wire::messages::$request as Request>::KEY,
                first: *<wire::messages::$request as Message>::VERSIONS.start(),
                last: *<wire::messages::$request as Message>::VERSIONS.end(),
            }),*]
        }
    };
}
wire::for_each_api!(table);

/// First bytes of a step from here on are a produce request with sealed batches, smaller ones a request of any API.
pub const PRODUCE: u8 = 200;
/// The topics that there are when an input begins, if no earlier one deleted them.
pub const TOPICS: [&str; 2] = ["a", "compacted"];
/// The most steps of an input.
const MOST: usize = 8;

/// The frames of an input, lengths in front. A step is `kind: u8, version: u8, length: u16, body`.
#[must_use]
pub fn frames(apis: &[Api], input: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = input;
    while frames.len() < MOST {
        let [kind, version, high, low, tail @ ..] = rest else {
            break;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (body, later) = tail.split_at(length);
        rest = later;
        let number = i32::try_from(frames.len()).unwrap_or(0);
        frames.push(if *kind >= PRODUCE {
            produce(number, *kind, *version, body)
        } else {
            let api = apis[usize::from(*kind) % apis.len()];
            // one more than known: it has to be refused
            let versions = api.last - api.first + 2;
            let version = api.first + i16::from(*version) % versions;
            frame(api.key, version, number, body)
        });
    }
    frames
}

fn frame(key: ApiKey, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: key.as_i16(),
        request_api_version: version,
        correlation_id,
        client_id: Some("fuzz".to_owned()),
        ..RequestHeader::default()
    };
    let mut bytes = BytesMut::new();
    header
        .encode(&mut bytes, key.request_header_version(version))
        .expect("a header with a short name can be written");
    bytes.extend_from_slice(body);
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(bytes.len()).expect("inputs are small"));
    frame.extend_from_slice(&bytes);
    frame.to_vec()
}

fn produce(number: i32, kind: u8, flags: u8, records: &[u8]) -> Vec<u8> {
    let partition = PartitionProduceData {
        index: 0,
        records: Some(sealed(records).into()),
        ..PartitionProduceData::default()
    };
    let request = ProduceRequest {
        transactional_id: (flags & 1 != 0).then(|| "t".to_owned()),
        acks: if flags & 2 == 0 { -1 } else { 1 },
        timeout_ms: 100,
        topic_data: vec![TopicProduceData {
            name: TOPICS[usize::from(kind) % TOPICS.len()].to_owned(),
            partition_data: vec![partition],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let version = 3 + i16::from(flags >> 2) % 7;
    let mut body = BytesMut::new();
    match request.encode(&mut body, version) {
        Ok(()) => frame(ApiKey::Produce, version, number, &body),
        Err(error) => panic!("failed to write a produce request v{version}: {error}"),
    }
}
