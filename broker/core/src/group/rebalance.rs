//! How does a group get from one generation to the next, and what do its timers do?

use types::ErrorCode;

use super::GroupState;
use super::classic::{Context, Group, JoinPhase, PendingAppend};
use super::request::{JoinReply, Reply, SyncReply};

/// A client may ask for no rebalance timeout at all; waiting for static members must not become a busy loop.
const MIN_STATIC_WAIT_MS: i64 = 1_000;

impl Group {
    /// Starts a rebalance unless one is being prepared.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>) {
        let was_empty = match self.state {
            GroupState::Empty => true,
            GroupState::CompletingRebalance => {
                self.refuse_syncs(cx, ErrorCode::RebalanceInProgress);
                false
            }
            GroupState::Stable => false,
            // The two in the middle are not states of a classic group.
            GroupState::PreparingRebalance
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Dead => return,
        };
        self.pending_sync.clear();
        self.sync_deadline_ms = None;
        let timeout_ms = self.rebalance_timeout_ms();
        let delay_ms = i64::from(cx.config.initial_rebalance_delay_ms);
        let initial = was_empty && delay_ms > 0;
        let wait_ms = if initial { delay_ms } else { timeout_ms };
        self.join_phase = Some(JoinPhase {
            deadline_ms: cx.now.monotonic_ms + wait_ms,
            initial_remaining_ms: initial.then_some((timeout_ms - delay_ms).max(0)),
            new_member: false,
        });
        self.transition(cx.now, GroupState::PreparingRebalance);
    }

    /// Forms the generation if nobody is missing; the initial delay is always waited for.
    pub(super) fn complete_join_if_all_joined(&mut self, cx: &mut Context<'_>) {
        let Some(phase) = self.join_phase else {
            return;
        };
        let all_joined = self.pending_members.is_empty()
            && self
                .members
                .values()
                .all(|member| member.awaiting_join.is_some());
        if all_joined && (phase.initial_remaining_ms.is_none() || self.members.is_empty()) {
            self.complete_join(cx);
        }
    }

    /// Forms the next generation of those who joined.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in absent {
            self.remove(cx, &id, ErrorCode::UnknownMemberId);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none of them rejoined: wait on, until their sessions end.
            let wait_ms = self.rebalance_timeout_ms().max(MIN_STATIC_WAIT_MS);
            self.join_phase = Some(JoinPhase {
                deadline_ms: cx.now.monotonic_ms + wait_ms,
                initial_remaining_ms: None,
                new_member: false,
            });
            return;
        }
        self.join_phase = None;
        self.generation += 1;
        if self.members.is_empty() {
            self.become_empty(cx);
        } else {
            self.protocol = self.vote();
            self.transition(cx.now, GroupState::CompletingRebalance);
            self.pending_sync = self.members.keys().cloned().collect();
            self.sync_deadline_ms = Some(cx.now.monotonic_ms + self.rebalance_timeout_ms());
            self.answer_joins(cx);
        }
    }

    fn become_empty(&mut self, cx: &mut Context<'_>) {
        self.protocol = None;
        self.leader = None;
        self.transition(cx.now, GroupState::Empty);
        let record = self.metadata_record(cx.now, None);
        cx.append(vec![record], PendingAppend::Unwatched);
    }

    fn answer_joins(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let reply: JoinReply = self.join_reply(&id);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            if let Some(token) = member.awaiting_join.take() {
                member.is_new = false;
                member.heard(cx.now);
                cx.reply(token, Reply::Join(reply));
            }
        }
    }

    /// Keeps the leader if it rejoined, else elects a member that did; `false` if nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let leader_joined = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader))
            .is_some_and(|leader| leader.awaiting_join.is_some());
        if leader_joined {
            return true;
        }
        let joined = self.members.values().find(|m| m.awaiting_join.is_some());
        match joined.map(|member| member.id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Answers everybody who waits for an assignment with `error` and forgets the assignments.
    pub(super) fn refuse_syncs(&mut self, cx: &mut Context<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(token) = member.awaiting_sync.take() {
                member.heard(cx.now);
                cx.reply(token, Reply::Sync(SyncReply::error(error)));
            }
        }
    }

    /// A member is gone: the others have to share its partitions.
    pub(super) fn member_gone(&mut self, cx: &mut Context<'_>, member_id: &str, error: ErrorCode) {
        self.remove(cx, member_id, error);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(cx);
                self.complete_join_if_all_joined(cx);
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(cx),
            GroupState::Empty
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Dead => {}
        }
    }

    /// Fires every timer that is due.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.monotonic_ms;
        if self.upgrading.is_some() {
            return;
        }
        self.consumer_tick(cx);
        self.pending_members.retain(|_, until| *until > now);
        let expired: Vec<String> = self
            .members
            .values()
            .filter(|member| member.expires_at().is_some_and(|at| at <= now))
            .map(|member| member.id.clone())
            .collect();
        for id in expired {
            self.member_gone(cx, &id, ErrorCode::UnknownMemberId);
        }
        self.complete_join_if_all_joined(cx);
        if let Some(phase) = self.join_phase
            && phase.deadline_ms <= now
        {
            self.join_wait_over(cx, phase);
        }
        if self
            .sync_deadline_ms
            .is_some_and(|deadline| deadline <= now)
        {
            self.sync_wait_over(cx);
        }
    }

    fn join_wait_over(&mut self, cx: &mut Context<'_>, phase: JoinPhase) {
        match phase.initial_remaining_ms {
            Some(remaining_ms) if phase.new_member && remaining_ms > 0 => {
                let delay_ms = i64::from(cx.config.initial_rebalance_delay_ms).min(remaining_ms);
                self.join_phase = Some(JoinPhase {
                    deadline_ms: cx.now.monotonic_ms + delay_ms,
                    initial_remaining_ms: Some(remaining_ms - delay_ms),
                    new_member: false,
                });
            }
            // Ids that were given out but not used do not hold up the generation any longer.
            _ => self.complete_join(cx),
        }
    }

    /// Members that joined the generation but never fetched their assignment are taken for dead.
    fn sync_wait_over(&mut self, cx: &mut Context<'_>) {
        self.sync_deadline_ms = None;
        let silent: Vec<String> = std::mem::take(&mut self.pending_sync).into_iter().collect();
        if silent.is_empty() {
            return;
        }
        for id in silent {
            self.remove(cx, &id, ErrorCode::UnknownMemberId);
        }
        self.prepare_rebalance(cx);
        self.complete_join_if_all_joined(cx);
    }
}
