//! Does every message at every version come back as it was written?

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use wire::Message;

use crate::values::{Arbitrary, Gen};

fn check<M: Message + Arbitrary>(seed: u64, size: u64) {
    for version in M::VERSIONS {
        let value = M::arbitrary(&mut Gen::new(seed, size), version);
        let place = format!("{} v{version}, seed {seed}, size {size}", M::NAME);
        let mut buf = BytesMut::new();
        value
            .encode(&mut buf, version)
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        let bytes = buf.freeze();
        let back =
            M::decode_exact(bytes.clone(), version).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(back, value, "{place}");
        assert!(
            bytes.len() >= M::MIN_SIZE,
            "{place}: {} bytes, the least is {}",
            bytes.len(),
            M::MIN_SIZE
        );

        let mut followed = BytesMut::from(&bytes[..]);
        followed.extend_from_slice(b"more");
        let mut followed = followed.freeze();
        assert!(
            M::decode_exact(followed.clone(), version).is_err(),
            "{place}: trailing bytes"
        );
        assert_eq!(M::decode(&mut followed, version).unwrap(), value, "{place}");
        assert_eq!(followed, Bytes::from_static(b"more"), "{place}");
    }
}

/// Every proper prefix of a message is refused: none ends early by chance.
fn check_prefixes<M: Message + Arbitrary>(seed: u64) {
    for version in M::VERSIONS {
        let mut buf = BytesMut::new();
        M::arbitrary(&mut Gen::new(seed, 2), version)
            .encode(&mut buf, version)
            .unwrap();
        let bytes = buf.freeze();
        for end in 0..bytes.len() {
            let error = M::decode_exact(bytes.slice(..end), version).err();
            let error = error.unwrap_or_else(|| {
                panic!(
                    "{} v{version}: accepts {end} of {} bytes",
                    M::NAME,
                    bytes.len()
                )
            });
            assert!(error.offset() <= end, "{error}");
        }
    }
}

macro_rules! check_apis {
    ($($api:ident, $request:ident, $response:ident, $a:ident, $b:ident;)*) => {
        fn check_all_apis(seed: u64, size: u64) {
            $(check::<wire::messages::$request>(seed, size); check::<wire::messages::$response>(seed, size);)*
        }
        fn check_all_prefixes(seed: u64) {
            $(check_prefixes::<wire::messages::$request>(seed); check_prefixes::<wire::messages::$response>(seed);)*
        }
    };
}
macro_rules! check_records {
    ($($message:ident, $module:ident;)*) => {
        fn check_all_records(seed: u64, size: u64) {
            $(check::<wire::messages::$message>(seed, size);)*
        }
    };
}
wire::for_each_api!(check_apis);
wire::for_each_record!(check_records);

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_message_at_every_version_survives_the_round_trip(seed in any::<u64>(), size in 0_u64..4) {
        check_all_apis(seed, size);
        check_all_records(seed, size);
    }
}

#[test]
fn every_truncated_message_is_refused() {
    for seed in 0..4 {
        check_all_prefixes(seed);
    }
}
