//! What does each API do? One file per API key, named as in the protocol.

pub(super) mod produce;

pub(super) mod fetch;

pub(super) mod list_offsets;

pub(super) mod metadata;

pub(super) mod offset_commit;
pub(super) mod offset_fetch;

pub(super) mod find_coordinator;

pub(super) mod heartbeat;
pub(super) mod join_group;
pub(super) mod leave_group;
pub(super) mod sync_group;

pub(super) mod consumer_group_describe;
pub(super) mod consumer_group_heartbeat;

pub(super) mod delete_groups;
pub(super) mod describe_groups;
pub(super) mod list_groups;
pub(super) mod offset_delete;

pub(super) mod api_versions;
pub(super) mod sasl_authenticate;
pub(super) mod sasl_handshake;

pub(super) mod create_partitions;
pub(super) mod create_topics;
pub(super) mod delete_records;
pub(super) mod delete_topics;
pub(super) mod describe_topic_partitions;
pub(super) mod elect_leaders;

pub(super) mod alter_partition_reassignments;
pub(super) mod list_partition_reassignments;

pub(super) mod alter_configs;
pub(super) mod describe_configs;
pub(super) mod incremental_alter_configs;
pub(super) mod list_config_resources;

pub(super) mod describe_cluster;
pub(super) mod describe_log_dirs;
pub(super) mod describe_quorum;
pub(super) mod update_features;

pub(super) mod init_producer_id;

pub(super) mod add_offsets_to_txn;
pub(super) mod add_partitions_to_txn;
pub(super) mod end_txn;
pub(super) mod txn_offset_commit;
pub(super) mod write_txn_markers;

pub(super) mod describe_producers;
pub(super) mod describe_transactions;
pub(super) mod list_transactions;

pub(super) mod offset_for_leader_epoch;

mod authorized;
mod config_resource;
mod transactional;
