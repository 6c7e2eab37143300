//! Which types do several kinds share?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to the data when the object that describes it is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The data stays.
    #[default]
    Retain,
    /// The data goes with the object.
    Delete,
}
