//! Which partitions does a client's incremental fetch mean, and which of them have news for it (KIP-227)?
//!
//! A session remembers what a client fetches and what it was told last. The client then only sends changes, and gets
//! only partitions with something new. The number of sessions is bounded; a client that gets none fetches in full.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng as _;
use types::{ErrorCode, TopicId};

/// A session that was used this recently is not evicted for another client (Kafka's
/// `min.incremental.fetch.session.eviction.ms`).
const MIN_AGE: Duration = Duration::from_secs(120);
/// Partitions of all sessions together: each takes about 150 bytes.
const MAX_PARTITIONS: usize = 200_000;

/// A partition as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionPartition {
    /// The topic's name, below version 13.
    pub(crate) topic: Arc<str>,
    /// The topic's id, from version 13 on.
    pub(crate) topic_id: TopicId,
    /// The partition.
    pub(crate) partition: i32,
}

/// What the client last asked about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchState {
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// What the client was last told about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
}

/// What a request means.
#[derive(Debug)]
pub(crate) enum Fetch {
    /// Everything that is in the request, and no session.
    Sessionless,
    /// Everything that is in the request, and a new session if there is room.
    Full,
    /// What the session remembers.
    Incremental {
        session_id: i32,
        wanted: Vec<(SessionPartition, FetchState)>,
    },
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    used: Instant,
    /// Partitions in the order in which they are read; one that gave records goes to the end.
    order: BTreeMap<u64, SessionPartition>,
    partitions: HashMap<SessionPartition, Cached>,
    next_place: u64,
}

#[derive(Debug)]
struct Cached {
    place: u64,
    state: FetchState,
    told: Option<Told>,
}

/// The sessions of all clients.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    sessions: Mutex<HashMap<i32, Session>>,
}

impl Session {
    fn put(&mut self, partition: SessionPartition, state: FetchState) {
        if let Some(cached) = self.partitions.get_mut(&partition) {
            cached.state = state;
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, partition.clone());
        let told = None;
        self.partitions
            .insert(partition, Cached { place, state, told });
    }

    fn remove(&mut self, partition: &SessionPartition) {
        if let Some(cached) = self.partitions.remove(partition) {
            self.order.remove(&cached.place);
        }
    }

    fn move_to_end(&mut self, partition: &SessionPartition) {
        if let Some(cached) = self.partitions.get_mut(partition) {
            self.order.remove(&cached.place);
            cached.place = self.next_place;
            self.order.insert(cached.place, partition.clone());
            self.next_place += 1;
        }
    }
}

/// The epoch after `epoch`; 0 and -1 have meanings of their own.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl FetchSessions {
    /// Room for `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            sessions: Mutex::default(),
        }
    }

    /// What a request with this session id and epoch means; applies its changes to the session.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH`, `FETCH_SESSION_TOPIC_ID_ERROR`.
    pub(crate) fn begin(
        &self,
        (session_id, epoch): (i32, i32),
        by_id: bool,
        changes: &[(SessionPartition, FetchState)],
        forgotten: &[SessionPartition],
    ) -> Result<Fetch, ErrorCode> {
        let mut sessions = self.sessions.lock();
        if epoch <= 0 {
            sessions.remove(&session_id);
            return Ok(if epoch == 0 {
                Fetch::Full
            } else {
                Fetch::Sessionless
            });
        }
        let session = sessions
            .get_mut(&session_id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.epoch = next_epoch(epoch);
        session.used = Instant::now();
        for (partition, state) in changes {
            session.put(partition.clone(), *state);
        }
        for partition in forgotten {
            session.remove(partition);
        }
        let wanted = session
            .order
            .values()
            .filter_map(|partition| {
                let state = session.partitions.get(partition)?.state;
                Some((partition.clone(), state))
            })
            .collect();
        Ok(Fetch::Incremental { session_id, wanted })
    }

    /// Opens a session for what was fetched in full; 0 when there is no room.
    pub(crate) fn open(
        &self,
        by_id: bool,
        partitions: Vec<(SessionPartition, FetchState, Told)>,
    ) -> i32 {
        let mut sessions = self.sessions.lock();
        let kept: usize = sessions.values().map(|s| s.partitions.len()).sum();
        if partitions.is_empty() || kept + partitions.len() > MAX_PARTITIONS {
            return 0;
        }
        if sessions.len() >= self.slots {
            let oldest = sessions
                .iter()
                .min_by_key(|(_, session)| session.used)
                .filter(|(_, session)| session.used.elapsed() >= MIN_AGE)
                .map(|(id, _)| *id);
            match oldest {
                Some(id) => sessions.remove(&id),
                None => return 0,
            };
        }
        let mut session = Session {
            epoch: 1,
            by_id,
            used: Instant::now(),
            order: BTreeMap::new(),
            partitions: HashMap::new(),
            next_place: 0,
        };
        for (partition, state, told) in partitions {
            session.put(partition.clone(), state);
            if let Some(cached) = session.partitions.get_mut(&partition) {
                cached.told = Some(told);
            }
        }
        let mut rng = rand::rng();
        loop {
            let id = rng.random_range(1..=i32::MAX);
            if let std::collections::hash_map::Entry::Vacant(free) = sessions.entry(id) {
                free.insert(session);
                return id;
            }
        }
    }

    /// Which of the answers are news to the session's client; they count as told. `answers` gives for each partition what
    /// it says, and whether it must be sent in any case (records, an error).
    pub(crate) fn news(
        &self,
        session_id: i32,
        answers: &[(SessionPartition, Told, bool, bool)],
    ) -> Vec<bool> {
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(&session_id) else {
            return vec![true; answers.len()]; // evicted meanwhile: the client will learn it next time
        };
        let mut news = Vec::with_capacity(answers.len());
        for (partition, told, has_records, has_error) in answers {
            let Some(cached) = session.partitions.get_mut(partition) else {
                news.push(true);
                continue;
            };
            let changed = cached.told != Some(*told);
            // An error is told until it is gone, and then the good news is.
            cached.told = (!has_error).then_some(*told);
            if *has_records {
                session.move_to_end(partition);
            }
            news.push(changed || *has_records || *has_error);
        }
        news
    }

    /// How many sessions are open.
    pub(crate) fn count(&self) -> usize {
        self.sessions.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(index: i32) -> SessionPartition {
        SessionPartition {
            topic: "t".into(),
            topic_id: TopicId::ZERO,
            partition: index,
        }
    }

    fn state(fetch_offset: i64) -> FetchState {
        FetchState {
            fetch_offset,
            max_bytes: 1,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn told(high_watermark: i64) -> Told {
        Told {
            high_watermark,
            log_start_offset: 0,
        }
    }

    fn wanted(fetch: Fetch) -> Vec<(i32, i64)> {
        match fetch {
            Fetch::Incremental { wanted, .. } => wanted
                .iter()
                .map(|(p, s)| (p.partition, s.fetch_offset))
                .collect(),
            other => panic!("want an incremental fetch, got {other:?}"),
        }
    }

    #[test]
    fn a_session_remembers_partitions_and_takes_changes() {
        let sessions = FetchSessions::new(1);
        let full = (0..3).map(|i| (partition(i), state(0), told(0))).collect();
        let id = sessions.open(false, full);
        assert!(id > 0);
        let fetch = sessions.begin((id, 1), false, &[(partition(1), state(7))], &[partition(2)]);
        assert_eq!(wanted(fetch.unwrap()), [(0, 0), (1, 7)]);
        let again = sessions.begin((id, 1), false, &[], &[]).unwrap_err();
        assert_eq!(again, ErrorCode::InvalidFetchSessionEpoch);
        assert!(sessions.begin((id, 2), false, &[], &[]).is_ok());
        let by_id = sessions.begin((id, 3), true, &[], &[]).unwrap_err();
        assert_eq!(by_id, ErrorCode::FetchSessionTopicIdError);
    }

    #[test]
    fn only_partitions_with_news_are_told_and_those_with_records_go_last() {
        let sessions = FetchSessions::new(1);
        let full = (0..3).map(|i| (partition(i), state(0), told(5))).collect();
        let id = sessions.open(false, full);
        let answers = [
            (partition(0), told(6), true, false),
            (partition(1), told(5), false, false),
            (partition(2), told(5), false, true),
        ];
        assert_eq!(sessions.news(id, &answers), [true, false, true]);
        let quiet = [(partition(2), told(5), false, false)];
        assert_eq!(sessions.news(id, &quiet), [true], "the error is gone");
        assert_eq!(sessions.news(id, &quiet), [false]);
        let fetch = sessions.begin((id, 1), false, &[], &[]).unwrap();
        let order: Vec<i32> = wanted(fetch).iter().map(|(p, _)| *p).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn a_full_cache_of_fresh_sessions_gives_none_and_a_closed_one_is_gone() {
        let sessions = FetchSessions::new(1);
        let open = || sessions.open(false, vec![(partition(0), state(0), told(0))]);
        let id = open();
        assert_eq!(open(), 0);
        let closed = sessions.begin((id, -1), false, &[], &[]);
        assert!(matches!(closed, Ok(Fetch::Sessionless)));
        let error = sessions.begin((id, 1), false, &[], &[]).unwrap_err();
        assert_eq!(error, ErrorCode::FetchSessionIdNotFound);
        assert!(open() > 0);
    }
}
