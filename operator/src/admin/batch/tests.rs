//! Do questions travel together, and does a silent cluster cost the others nothing?

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use operator_core::topic::ObservedTopic;

use super::*;
use crate::admin::ClusterHealth;

/// Answers everything, but not for the cluster `dead`: that one takes a second to say nothing.
#[derive(Debug, Default)]
struct Counting {
    to_the_living: AtomicUsize,
    to_the_dead: AtomicUsize,
}

impl KafkaAdmin for Counting {
    fn health<'a>(
        &'a self,
        _: &'a KafkaEndpoint,
    ) -> BoxFuture<'a, Result<ClusterHealth, AdminError>> {
        async { Ok(ClusterHealth::default()) }.boxed()
    }

    fn describe_topics<'a>(
        &'a self,
        at: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<Option<ObservedTopic>>> {
        async move {
            if at.cluster == "dead" {
                self.to_the_dead.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Err(AdminError::Unreachable("no answer".into()));
            }
            self.to_the_living.fetch_add(1, Ordering::Relaxed);
            Ok(topics.iter().map(|_| Ok(None)).collect())
        }
        .boxed()
    }

    fn create_topics<'a>(
        &'a self,
        _: &'a KafkaEndpoint,
        topics: Vec<NewTopic>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move { Ok(topics.iter().map(|_| Ok(())).collect()) }.boxed()
    }

    fn grow_topics<'a>(
        &'a self,
        _: &'a KafkaEndpoint,
        topics: Vec<(String, i32)>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move { Ok(topics.iter().map(|_| Ok(())).collect()) }.boxed()
    }

    fn alter_configs<'a>(
        &'a self,
        _: &'a KafkaEndpoint,
        changes: Vec<ConfigChange>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move { Ok(changes.iter().map(|_| Ok(())).collect()) }.boxed()
    }

    fn delete_topics<'a>(
        &'a self,
        _: &'a KafkaEndpoint,
        topics: Vec<String>,
    ) -> BoxFuture<'a, Answers<()>> {
        async move { Ok(topics.iter().map(|_| Ok(())).collect()) }.boxed()
    }
}

fn at(cluster: &str) -> KafkaEndpoint {
    KafkaEndpoint {
        namespace: "default".into(),
        cluster: cluster.into(),
        host: cluster.into(),
        port: 9092,
    }
}

#[tokio::test]
async fn a_hundred_questions_are_a_few_requests() {
    let admin = Arc::new(Counting::default());
    let batcher = Batcher::start(admin.clone());
    let at = at("shop");
    let answers = join_all((0..100).map(|_| batcher.describe(&at, "orders"))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(None)));
    let requests = admin.to_the_living.load(Ordering::Relaxed);
    assert!(requests <= 5, "{requests}");
}

#[tokio::test]
async fn a_silent_cluster_delays_nobody_else_and_is_asked_rarely() {
    let admin = Arc::new(Counting::default());
    let batcher = Batcher::start(admin.clone());
    let (dead, living) = (at("dead"), at("shop"));
    // More batches to the silent cluster than may be under way to it at once.
    let silent = join_all((0..600).map(|_| batcher.describe(&dead, "orders")));
    let others = async {
        for _ in 0..5 {
            assert_eq!(batcher.describe(&living, "orders").await, Ok(None));
        }
        Instant::now()
    };
    let (silent, answered) =
        futures::join!(silent.map(|answers| (answers, Instant::now())), others);
    let (answers, given_up) = silent;
    assert!(answers.iter().all(Result::is_err));
    assert!(
        answered < given_up,
        "the living cluster waited for the silent one"
    );

    let before = admin.to_the_dead.load(Ordering::Relaxed);
    for _ in 0..50 {
        let answer = batcher.describe(&dead, "orders").await;
        assert_eq!(answer, Err(AdminError::Unreachable("no answer".into())));
    }
    let asked = admin.to_the_dead.load(Ordering::Relaxed) - before;
    assert!(
        asked <= 2,
        "asked {asked} times although it is known to be silent"
    );
}
