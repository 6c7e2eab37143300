//! Which operations may a client do, as the bit fields of KIP-430 say it?
//!
//! There is no authorizer, so everybody may do everything that the kind of resource knows (Kafka's answer without one).

/// Says that the client did not ask.
pub(super) const NOT_ASKED: i32 = i32::MIN;

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// Operations on a topic.
pub(super) const fn topic(asked: bool) -> i32 {
    if asked {
        READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS
    } else {
        NOT_ASKED
    }
}

/// Operations on a group.
pub(super) const fn group(asked: bool) -> i32 {
    if asked {
        READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS
    } else {
        NOT_ASKED
    }
}

/// Operations on the cluster.
pub(super) const fn cluster(asked: bool) -> i32 {
    if asked {
        CREATE
            | ALTER
            | DESCRIBE
            | CLUSTER_ACTION
            | DESCRIBE_CONFIGS
            | ALTER_CONFIGS
            | IDEMPOTENT_WRITE
    } else {
        NOT_ASKED
    }
}
