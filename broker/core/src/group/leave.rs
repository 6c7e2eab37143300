//! What happens when members leave?

use types::ErrorCode;

use super::classic::{Context, Group};
use super::request::LeavingMember;

impl Group {
    /// Removes members, and returns the error of each.
    pub(super) fn leave_all(
        &mut self,
        cx: &mut Context<'_>,
        members: &[LeavingMember],
    ) -> Vec<ErrorCode> {
        if self.consumer.is_some() {
            return self.leave_consumer_group(cx, members);
        }
        let leave = |leaving| match &self.upgrading {
            Some(_) => self.leave_while_upgrading(leaving),
            None => self.leave(cx, leaving),
        };
        members.iter().map(leave).collect()
    }

    /// Removes one member and returns its error.
    fn leave(&mut self, cx: &mut Context<'_>, leaving: &LeavingMember) -> ErrorCode {
        let instance = leaving.group_instance_id.as_deref();
        let member_id = if leaving.member_id.is_empty() {
            // An administrator names a static member by its instance only.
            match instance.and_then(|instance| self.static_members.get(instance)) {
                Some(member_id) => member_id.clone(),
                None => return ErrorCode::UnknownMemberId,
            }
        } else if instance.is_none() && self.pending_members.remove(&leaving.member_id).is_some() {
            self.complete_join_if_all_joined(cx);
            return ErrorCode::None;
        } else {
            leaving.member_id.clone()
        };
        if let Err(error) = self.check_member(&member_id, instance) {
            return error;
        }
        self.member_gone(cx, &member_id, ErrorCode::UnknownMemberId);
        ErrorCode::None
    }
}
