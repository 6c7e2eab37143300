//! How is a group described to administrators?

use bytes::Bytes;

use super::GroupState;
use super::classic::Group;
use super::request::{GroupDescription, GroupKind, ListedGroup, MemberDescription};

impl Group {
    pub(super) fn describe(&self) -> GroupDescription {
        let stable = self.state == GroupState::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let members = self.members.values().map(|member| MemberDescription {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable {
                member.metadata(&protocol)
            } else {
                Bytes::new()
            },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        GroupDescription {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol,
        }
    }

    pub(super) fn list(&self) -> ListedGroup {
        ListedGroup {
            group_id: self.id.to_string(),
            protocol_type: match &self.consumer {
                Some(_) => "consumer".to_owned(),
                None => self.protocol_type.clone().unwrap_or_default(),
            },
            kind: match &self.consumer {
                Some(_) => GroupKind::Consumer,
                None => GroupKind::Classic,
            },
            state: self.current_state(),
        }
    }
}
