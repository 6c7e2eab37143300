//! When does the coordinator die?

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use wire::messages::{ConsumerGroupDescribeRequest, DescribeGroupsRequest};

use tests::raw::Raw;

use super::history::{Event, What};

/// A point of the protocol, after one member more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The coordinator waits for the other members to join again; in a group of KIP-848, it has just taken the new one.
    Rebalancing,
    /// It waits for the leader's assignment, or for it to be on the disks; in a group of KIP-848, for members to give up what others shall have.
    Assigning,
    /// A member was told of its partitions and has not committed yet.
    Assigned,
    /// A member was told to give partitions up, and commits.
    Revoking,
    /// A commit is under way.
    Committing,
    /// A member leaves: commits the last time, then says that it goes.
    Leaving,
    /// Nothing but heartbeats and commits.
    Steady,
    /// As soon as the second coordinator has taken over from the first one that was killed.
    Taking,
}

pub(crate) const MOMENTS: [Moment; 8] = [
    Moment::Rebalancing,
    Moment::Assigning,
    Moment::Committing,
    Moment::Assigned,
    Moment::Leaving,
    Moment::Taking,
    Moment::Revoking,
    Moment::Steady,
];

impl Moment {
    /// Whether it is one that a member tells of, and this is what it then says.
    pub(crate) fn is_told_by(self, event: &Event) -> bool {
        match self {
            Self::Assigned => matches!(event.what, What::Assigned(_)),
            Self::Revoking => matches!(event.what, What::Revoking(_)),
            Self::Committing => matches!(event.what, What::Committing(_)),
            Self::Leaving => matches!(event.what, What::Leaving | What::Revoked(_)),
            Self::Steady => matches!(event.what, What::Record { .. }),
            Self::Rebalancing | Self::Assigning | Self::Taking => false,
        }
    }

    /// Whether members tell of it; else the coordinator shows it.
    pub(crate) const fn is_told_by_members(self) -> bool {
        !matches!(self, Self::Rebalancing | Self::Assigning | Self::Taking)
    }

    /// How often it may be told before the kill is due, at most: which of them it is, the seed says.
    pub(crate) const fn most(self) -> u64 {
        match self {
            Self::Assigned | Self::Leaving => 2,
            Self::Committing => 8,
            Self::Steady => 200,
            Self::Revoking | Self::Rebalancing | Self::Assigning | Self::Taking => 1,
        }
    }

    /// Whether the coordinator shows it.
    pub(crate) fn is_shown(self, state: &GroupState) -> bool {
        match self {
            Self::Rebalancing | Self::Taking => {
                ["PreparingRebalance", "Assigning", "Reconciling"].contains(&state.name.as_str())
            }
            Self::Assigning => {
                ["CompletingRebalance", "Reconciling"].contains(&state.name.as_str())
            }
            _ => false,
        }
    }
}

/// What a coordinator says of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) name: String,
    pub(crate) members: usize,
}

/// Asks a coordinator; `None` when it cannot say.
pub(crate) fn group_state(raw: &mut Raw, group: &str, kip_848: bool) -> Option<GroupState> {
    if kip_848 {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group.to_owned()],
            ..Default::default()
        };
        let described = raw.call(0, &request).groups.into_iter().next()?;
        return (described.error_code == 0).then_some(GroupState {
            name: described.group_state,
            members: described.members.len(),
        });
    }
    let request = DescribeGroupsRequest {
        groups: vec![group.to_owned()],
        ..Default::default()
    };
    let described = raw.call(5, &request).groups.into_iter().next()?;
    (described.error_code == 0).then_some(GroupState {
        name: described.group_state,
        members: described.members.len(),
    })
}

/// A process that kills another one with -9 within a fraction of a millisecond of being told.
#[derive(Debug)]
pub(crate) struct Killer(Child);

impl Killer {
    pub(crate) fn of(pid: u32) -> Self {
        let child = Command::new("sh")
            .args(["-c", "read go && kill -9 $0", &pid.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        Self(child)
    }

    #[track_caller]
    pub(crate) fn fire(mut self) {
        let mut input = self.0.stdin.take().expect("piped");
        input.write_all(b"go\n").expect("the shell reads");
        assert!(self.0.wait().expect("it ends").success(), "nobody to kill");
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        // It ends without killing when its input ends; both fail when it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
