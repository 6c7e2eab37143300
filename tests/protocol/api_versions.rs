//! Is ApiVersions answered as KIP-511 asks, at every version and at one that does not exist?

use tests::cluster::Cluster;
use wire::messages::ApiVersionsResponse;
use wire::{ApiKey, Message as _};

use tests::raw::Raw;

use crate::frames;

/// Response header v0 (a bare correlation id) and the body at `version`.
fn answer(raw: &mut Raw, asked: i16, answered: i16, body: &[u8]) -> ApiVersionsResponse {
    // A version nobody knows still has the flexible request header that its client would send.
    raw.send(&frames::with_header(ApiKey::ApiVersions, asked, body))
        .unwrap();
    let frame = raw.receive().unwrap();
    assert_eq!(
        frame[..4],
        9_i32.to_be_bytes(),
        "the response header is a bare correlation id"
    );
    ApiVersionsResponse::decode_exact(frame[4..].to_vec().into(), answered).unwrap()
}

#[test]
fn api_versions_answers_every_version_and_falls_back_to_v0_for_an_unknown_one() {
    let cluster = Cluster::up("examples/single-node");
    let mut raw = Raw::connect(&cluster.bootstrap());
    // Body of v3 and v4: client software name and version as compact strings, no tagged fields.
    let flexible = b"\x05test\x02x\x00";
    let mut tables = Vec::new();
    for version in 0..=4 {
        let body: &[u8] = if version >= 3 { flexible } else { b"" };
        let response = answer(&mut raw, version, version, body);
        assert_eq!(response.error_code, 0, "v{version}");
        tables.push(
            response
                .api_keys
                .iter()
                .map(|key| (key.api_key, key.min_version, key.max_version))
                .collect::<Vec<_>>(),
        );
    }
    assert!(
        tables.windows(2).all(|pair| pair[0] == pair[1]),
        "every version advertises the same table"
    );
    let unknown = answer(&mut raw, 99, 0, flexible);
    assert_eq!(unknown.error_code, 35, "UNSUPPORTED_VERSION");
    let own = unknown
        .api_keys
        .iter()
        .find(|key| key.api_key == 18)
        .expect("the range of ApiVersions itself");
    assert_eq!((own.min_version, own.max_version), (0, 4));
    // The same connection goes on after the unknown version.
    assert_eq!(answer(&mut raw, 0, 0, b"").error_code, 0);
}

#[test]
fn produce_is_advertised_from_version_0_so_that_librdkafka_compresses() {
    let cluster = Cluster::up("examples/single-node");
    let mut raw = Raw::connect(&cluster.bootstrap());
    let response = answer(&mut raw, 0, 0, b"");
    let produce = response
        .api_keys
        .iter()
        .find(|key| key.api_key == 0)
        .expect("Produce");
    assert_eq!(produce.min_version, 0, "KAFKA-18659");
    for key in [
        0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 22, 23, 32, 36, 37, 42, 44, 60,
    ] {
        assert!(
            response.api_keys.iter().any(|row| row.api_key == key),
            "API {key} is not advertised"
        );
    }
}
