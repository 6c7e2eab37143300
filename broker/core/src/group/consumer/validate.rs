//! Which heartbeats can be refused without looking at the group?

use types::ErrorCode;

use super::pattern::Pattern;
use super::request::{
    ConsumerConfig, ConsumerHeartbeat, JOIN_EPOCH, LEAVE_EPOCH, Rejection, STATIC_LEAVE_EPOCH,
    ValidHeartbeat,
};
use crate::group::join::MAX_TEXT;

impl ConsumerHeartbeat {
    /// Checks what can be checked without the group, and prepares what takes long.
    ///
    /// # Errors
    /// What the client is answered.
    pub fn validate(self, config: &ConsumerConfig) -> Result<ValidHeartbeat, Rejection> {
        check(config, &self)?;
        let regex = self.topic_regex.as_deref();
        let regex = regex.filter(|regex| !regex.is_empty());
        let pattern = regex.map(Pattern::of_member).transpose()?;
        Ok(ValidHeartbeat {
            request: self,
            pattern,
        })
    }
}

fn check(config: &ConsumerConfig, request: &ConsumerHeartbeat) -> Result<(), Rejection> {
    let invalid = |message: &str| Err(Rejection::new(ErrorCode::InvalidRequest, message));
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    if request.group_id.is_empty() {
        return Err(Rejection::new(
            ErrorCode::InvalidGroupId,
            "the group id is empty",
        ));
    }
    if is_empty(&request.instance_id) {
        return invalid("the instance id is empty");
    }
    if is_empty(&request.rack_id) {
        return invalid("the rack id is empty");
    }
    if too_long(request) {
        return invalid("a name is longer than 32767 bytes");
    }
    let needs_id = request.fresh_id.is_none() || request.member_epoch != JOIN_EPOCH;
    if needs_id && request.member_id.is_empty() {
        return invalid("the member id is empty");
    }
    match request.member_epoch {
        JOIN_EPOCH => check_join(request)?,
        STATIC_LEAVE_EPOCH if request.instance_id.is_none() => {
            return invalid("only a member with an instance id can leave for a while");
        }
        LEAVE_EPOCH | STATIC_LEAVE_EPOCH => {}
        epoch if epoch < 0 => return invalid("the member epoch means nothing"),
        _ => {}
    }
    if let Some(name) = &request.server_assignor
        && config.assignor(name).is_none()
    {
        let message = format!("the assignor {name} is not one of `group.consumer.assignors`");
        return Err(Rejection::new(ErrorCode::UnsupportedAssignor, message));
    }
    Ok(())
}

/// Whoever joins says everything about itself, and has nothing.
fn check_join(request: &ConsumerHeartbeat) -> Result<(), Rejection> {
    let invalid = |message: &str| Err(Rejection::new(ErrorCode::InvalidRequest, message));
    if request.rebalance_timeout_ms.is_none() {
        return invalid("the rebalance timeout is missing from a join");
    }
    if request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return invalid("the partitions of a join have to be empty");
    }
    if request.topic_names.is_none() && request.topic_regex.is_none() {
        return invalid("neither topic names nor a regular expression are in a join");
    }
    Ok(())
}

/// Keys of records hold names with a length of two bytes.
fn too_long(request: &ConsumerHeartbeat) -> bool {
    let options = [&request.instance_id, &request.rack_id];
    let long = |text: &str| text.len() > MAX_TEXT;
    long(&request.group_id)
        || long(&request.member_id)
        || long(&request.client_id)
        || options.into_iter().flatten().any(|text| long(text))
        || (request.topic_names.iter().flatten()).any(|name| long(name))
}
