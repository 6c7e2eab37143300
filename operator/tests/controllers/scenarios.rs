//! Which scenarios are there, and how is each run alone?

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::namespace::Namespace;
use crate::world::World;

/// A scenario and the namespace that it runs in.
pub(crate) struct Scenario {
    pub(crate) namespace: &'static str,
    pub(crate) run: fn(Namespace) -> BoxFuture<'static, ()>,
}

macro_rules! scenarios {
    ($($namespace:literal $module:ident::$name:ident)*) => {
        /// All of them.
        pub(crate) const ALL: &[Scenario] = &[
            $(Scenario { namespace: $namespace, run: |namespace| crate::$module::$name(namespace).boxed() },)*
        ];

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (world, namespace) = World::alone($namespace).await;
                Box::pin(crate::$module::$name(namespace)).await;
                World::again(&world, $namespace).end().await;
                world.finish().await;
            }
        )*
    };
}

scenarios! {
    "objects" objects::a_new_cluster_has_all_its_objects_and_owns_them
    "pools" objects::two_pools_are_two_stateful_sets_of_one_cluster
    "pruned" objects::what_is_no_longer_built_is_deleted_and_what_is_foreign_stays
    "edited" drift::what_is_edited_by_hand_is_put_back
    "deleted" drift::what_is_deleted_by_hand_comes_back
    "paused" drift::a_paused_cluster_is_left_alone_until_it_goes_on
    "not-ready" reports::a_cluster_whose_pods_do_not_start_says_so_and_recovers
    "invalid" reports::an_invalid_spec_is_explained_and_changes_nothing
    "taken" reports::a_name_that_is_taken_is_reported_and_left_alone
    "held" reports::a_smaller_pool_is_held_back_and_all_else_goes_on
    "roll" roll::a_change_of_configuration_restarts_one_pod_at_a_time_while_all_is_in_sync
    "roll-unled" roll::nothing_healthy_restarts_while_the_active_controller_is_not_known
    "bad-image" roll::a_bad_image_meets_one_pod_and_its_correction_ends_the_roll
    "two" deletion::two_clusters_do_not_touch_each_other
    "retained" deletion::a_deleted_cluster_leaves_its_volumes_and_takes_them_up_again
    "erased" deletion::a_cluster_with_the_policy_delete_takes_its_volumes_along
    "set-erased" deletion::a_deleted_stateful_set_takes_no_volume_along
    "pool-erased" deletion::a_pool_that_left_the_spec_keeps_its_volumes
    "growth" storage::a_larger_size_grows_the_volumes_and_restarts_nothing
    "shrink" storage::a_smaller_size_is_refused_and_all_else_goes_on
    "topic" topics::a_topic_is_created_and_grows_and_follows_its_configuration
    "topic-drift" topics::a_topic_that_was_changed_in_kafka_is_put_back
    "topic-limits" topics::what_kafka_cannot_do_is_said_and_not_done
    "topic-policies" topics::a_deleted_topic_stays_or_goes_as_its_policy_says
    "topic-orphan" topics::a_topic_waits_for_its_cluster_and_outlives_it
    "topic-claims" topics::two_objects_for_one_topic_end_in_a_handover
}
