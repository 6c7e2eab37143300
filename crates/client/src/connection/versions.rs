//! Which versions of each API does a broker serve?

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use types::ErrorCode;
use wire::ApiKey;
use wire::messages::ApiVersionsResponse;

/// What a broker said about itself when the connection began.
#[derive(Debug, Clone, Default)]
pub struct BrokerVersions {
    apis: BTreeMap<i16, (i16, i16)>,
    finalized_features: BTreeMap<String, i16>,
}

impl BrokerVersions {
    pub(crate) fn new(answer: &ApiVersionsResponse) -> Self {
        let apis = answer
            .api_keys
            .iter()
            .map(|a| (a.api_key, (a.min_version, a.max_version)));
        let features = answer
            .finalized_features
            .iter()
            .map(|f| (f.name.clone(), f.max_version_level));
        Self {
            apis: apis.collect(),
            finalized_features: features.collect(),
        }
    }

    /// The versions of an API; `None` when it is not served.
    #[must_use]
    pub fn of(&self, api: ApiKey) -> Option<RangeInclusive<i16>> {
        self.apis.get(&api.as_i16()).map(|(min, max)| *min..=*max)
    }

    /// Every API that is served: key, lowest and highest version.
    pub fn iter(&self) -> impl Iterator<Item = (i16, RangeInclusive<i16>)> {
        self.apis
            .iter()
            .map(|(key, (min, max))| (*key, *min..=*max))
    }

    /// The finalized level of a feature, such as `transaction.version`.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<i16> {
        self.finalized_features.get(name).copied()
    }
}

/// Whether an ApiVersions answer (correlation id, then error code in every version) says that the version is not known.
pub(crate) fn is_unsupported(frame: &Bytes) -> bool {
    frame.get(4..6) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes())
}
