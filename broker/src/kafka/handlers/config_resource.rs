//! Which resource does a configuration request name?

use broker_core::metadata::ConfigResource;
use types::{ErrorCode, NodeId};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// The resource of a type number and a name.
///
/// # Errors
/// `INVALID_REQUEST` and why.
pub(super) fn parse(kind: i8, name: &str) -> Result<ConfigResource, (ErrorCode, String)> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(name.into())),
        BROKER if name.is_empty() => Ok(ConfigResource::DefaultBroker),
        BROKER => match name.parse() {
            Ok(id) => Ok(ConfigResource::Broker(NodeId(id))),
            Err(_) => Err((
                ErrorCode::InvalidRequest,
                format!("Broker id must be an integer, but it is: {name}"),
            )),
        },
        _ => Err((
            ErrorCode::InvalidRequest,
            format!(
                "Unsupported resource type {kind}: only topics (2) and brokers (4) have configurations here"
            ),
        )),
    }
}
