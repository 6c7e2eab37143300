//! Which broker keys of Apache Kafka can be set to nothing, or to one value only, and why?

use crate::key::{ConfigKey, KeyType, Scope, Support, Validator};

use Support::{OnlyDefault, Refused};

const BY_NODES: &str = "set by `nodes` of the broker file";
const BY_LISTENERS: &str = "set by `listeners` of the broker file";
const FIXED_QUORUM: &str = "the timeouts and sizes of the controller quorum are fixed";
const GRPC: &str = "brokers speak gRPC to each other";
const NO_SECURITY: &str = "security is not implemented yet";
const NO_TIERED_STORAGE: &str = "tiered storage is not implemented";
const NO_JAVA: &str = "the broker loads no Java classes";
const CODEC_LEVEL: &str = "the level of a codec cannot be set yet";
const THREADS: &str = "the broker sizes its threads by itself";
const COORDINATOR_LOG: &str =
    "coordinators write each change at once, and read their logs in fixed steps";
const USE_DURABILITY: &str =
    "flushing is chosen for the whole broker by `durability: replicated` or `durability: fsync`";

/// The keys with one accepted value, and then, under each reason, the names that are refused for it.
macro_rules! keys {
    ($($only:expr,)+ ; $($reason:expr => $($name:literal)+;)+) => {
        /// Broker keys of Kafka that cannot be set here (yet), each with its reason.
        pub const NOT_EFFECTIVE: &[ConfigKey] = &[
            $($only,)+
            $($(refused($name, $reason),)+)+
        ];
    };
}

keys! {
    only(integer("compression.gzip.level", "-1"), CODEC_LEVEL),
    only(integer("compression.lz4.level", "9"), CODEC_LEVEL),
    only(integer("compression.zstd.level", "3"), CODEC_LEVEL),
    only(
        long("log.flush.interval.messages", "9223372036854775807"),
        USE_DURABILITY,
    ),
    only(
        integer("log.index.size.max.bytes", "10485760"),
        "indexes grow with their segment",
    ),
    only(
        boolean("log.cleaner.enable", "true"),
        "compacted topics are compacted; `log.cleaner.threads` says by how many threads",
    ),
    only(
        boolean("log.preallocate", "false"),
        "files grow as they are written",
    ),
    only(
        boolean("transaction.partition.verification.enable", "true"),
        "what a producer writes in a transaction is always verified",
    ),
    only(
        boolean("transaction.two.phase.commit.enable", "false"),
        "transactions of two phases (KIP-939) are not implemented",
    ),
    ;
    BY_NODES =>
        "advertised.listeners"
        "broker.id"
        "broker.rack"
        "controller.listener.names"
        "controller.quorum.bootstrap.servers"
        "controller.quorum.voters"
        "node.id"
        "process.roles";
    BY_LISTENERS =>
        "listener.security.protocol.map"
        "listeners";
    "set `dataDir` of the broker file" =>
        "log.dir"
        "metadata.log.dir";
    "set `dataDir` of the broker file; one directory holds all logs" =>
        "alter.log.dirs.replication.quota.window.num"
        "alter.log.dirs.replication.quota.window.size.seconds"
        "cordoned.log.dirs"
        "log.dir.failure.timeout.ms"
        "log.dirs"
        "num.replica.alter.log.dirs.threads";
    FIXED_QUORUM =>
        "controller.quorum.append.linger.ms"
        "controller.quorum.election.backoff.max.ms"
        "controller.quorum.election.timeout.ms"
        "controller.quorum.fetch.max.bytes"
        "controller.quorum.fetch.snapshot.max.bytes"
        "controller.quorum.fetch.timeout.ms"
        "controller.quorum.request.timeout.ms"
        "controller.quorum.retry.backoff.ms";
    "a controller with a new disk joins by itself" =>
        "controller.quorum.auto.join.enable";
    "the metadata log makes its snapshots by itself" =>
        "metadata.log.max.record.bytes.between.snapshots"
        "metadata.log.max.snapshot.interval.ms"
        "metadata.log.segment.bytes"
        "metadata.log.segment.ms"
        "metadata.max.idle.interval.ms"
        "metadata.max.retention.bytes"
        "metadata.max.retention.ms";
    GRPC =>
        "controller.socket.timeout.ms"
        "initial.broker.registration.timeout.ms"
        "inter.broker.listener.name"
        "num.replica.fetchers"
        "replica.fetch.backoff.ms"
        "replica.fetch.max.bytes"
        "replica.fetch.min.bytes"
        "replica.fetch.response.max.bytes"
        "replica.fetch.wait.max.ms"
        "replica.socket.receive.buffer.bytes"
        "replica.socket.timeout.ms"
        "request.timeout.ms"
        "security.inter.broker.protocol"
        "socket.connection.setup.timeout.max.ms"
        "socket.connection.setup.timeout.ms";
    "there is no ZooKeeper: controllers form a quorum by themselves" =>
        "zookeeper.connect";
    "finalized features decide the protocol between brokers" =>
        "inter.broker.protocol.version";
    "all batches have format version 2" =>
        "log.message.format.version";
    NO_SECURITY =>
        "authorizer.class.name"
        "connection.failed.authentication.delay.ms"
        "connections.max.reauth.ms"
        "principal.builder.class"
        "sasl.client.callback.handler.class"
        "sasl.enabled.mechanisms"
        "sasl.jaas.config"
        "sasl.kerberos.kinit.cmd"
        "sasl.kerberos.min.time.before.relogin"
        "sasl.kerberos.principal.to.local.rules"
        "sasl.kerberos.service.name"
        "sasl.kerberos.ticket.renew.jitter"
        "sasl.kerberos.ticket.renew.window.factor"
        "sasl.login.callback.handler.class"
        "sasl.login.class"
        "sasl.login.connect.timeout.ms"
        "sasl.login.read.timeout.ms"
        "sasl.login.refresh.buffer.seconds"
        "sasl.login.refresh.min.period.seconds"
        "sasl.login.refresh.window.factor"
        "sasl.login.refresh.window.jitter"
        "sasl.login.retry.backoff.max.ms"
        "sasl.login.retry.backoff.ms"
        "sasl.mechanism.controller.protocol"
        "sasl.mechanism.inter.broker.protocol"
        "sasl.oauthbearer.assertion.algorithm"
        "sasl.oauthbearer.assertion.claim.aud"
        "sasl.oauthbearer.assertion.claim.exp.seconds"
        "sasl.oauthbearer.assertion.claim.iss"
        "sasl.oauthbearer.assertion.claim.jti.include"
        "sasl.oauthbearer.assertion.claim.nbf.seconds"
        "sasl.oauthbearer.assertion.claim.sub"
        "sasl.oauthbearer.assertion.file"
        "sasl.oauthbearer.assertion.private.key.file"
        "sasl.oauthbearer.assertion.private.key.passphrase"
        "sasl.oauthbearer.assertion.template.file"
        "sasl.oauthbearer.client.credentials.client.id"
        "sasl.oauthbearer.client.credentials.client.secret"
        "sasl.oauthbearer.clock.skew.seconds"
        "sasl.oauthbearer.expected.audience"
        "sasl.oauthbearer.expected.issuer"
        "sasl.oauthbearer.jwks.endpoint.refresh.ms"
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms"
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms"
        "sasl.oauthbearer.jwks.endpoint.url"
        "sasl.oauthbearer.jwt.retriever.class"
        "sasl.oauthbearer.jwt.validator.class"
        "sasl.oauthbearer.scope"
        "sasl.oauthbearer.scope.claim.name"
        "sasl.oauthbearer.sub.claim.name"
        "sasl.oauthbearer.token.endpoint.url"
        "sasl.server.callback.handler.class"
        "sasl.server.max.receive.size"
        "security.providers"
        "ssl.allow.dn.changes"
        "ssl.allow.san.changes"
        "ssl.cipher.suites"
        "ssl.client.auth"
        "ssl.enabled.protocols"
        "ssl.endpoint.identification.algorithm"
        "ssl.engine.factory.class"
        "ssl.key.password"
        "ssl.keymanager.algorithm"
        "ssl.keystore.certificate.chain"
        "ssl.keystore.key"
        "ssl.keystore.location"
        "ssl.keystore.password"
        "ssl.keystore.type"
        "ssl.principal.mapping.rules"
        "ssl.protocol"
        "ssl.provider"
        "ssl.secure.random.implementation"
        "ssl.trustmanager.algorithm"
        "ssl.truststore.certificates"
        "ssl.truststore.location"
        "ssl.truststore.password"
        "ssl.truststore.type"
        "super.users";
    "there are no delegation tokens" =>
        "delegation.token.expiry.check.interval.ms"
        "delegation.token.expiry.time.ms"
        "delegation.token.max.lifetime.ms"
        "delegation.token.secret.key";
    "there are no quotas of clients yet" =>
        "client.quota.callback.class"
        "controller.quota.window.num"
        "controller.quota.window.size.seconds"
        "max.connection.creation.rate"
        "quota.window.num"
        "quota.window.size.seconds";
    "`max.connections.per.ip` holds for every address" =>
        "max.connections.per.ip.overrides";
    "throttles of replication have no windows" =>
        "replication.quota.window.num"
        "replication.quota.window.size.seconds";
    NO_JAVA =>
        "alter.config.policy.class.name"
        "config.providers"
        "create.topic.policy.class.name"
        "kafka.metrics.reporters"
        "metric.reporters";
    "`/metrics` shows counters and gauges, without samples" =>
        "kafka.metrics.polling.interval.secs"
        "metrics.num.samples"
        "metrics.recording.level"
        "metrics.sample.window.ms";
    "metrics of clients (KIP-714) are not taken" =>
        "telemetry.max.bytes";
    THREADS =>
        "background.threads"
        "group.coordinator.background.threads"
        "group.coordinator.threads"
        "num.io.threads"
        "num.network.threads"
        "num.recovery.threads.per.data.dir";
    "memory of requests is bounded by the broker itself" =>
        "queued.max.request.bytes"
        "queued.max.requests";
    "the kernel sizes socket buffers" =>
        "socket.receive.buffer.bytes"
        "socket.send.buffer.bytes";
    "listeners have a fixed backlog" =>
        "socket.listen.backlog.size";
    "listeners are opened when the broker can serve" =>
        "early.start.listeners";
    "what waits is forgotten when it is answered: nothing has to be purged" =>
        "delete.records.purgatory.purge.interval.requests"
        "fetch.purgatory.purge.interval.requests"
        "producer.purgatory.purge.interval.requests";
    "pages of DescribeTopicPartitions have a fixed bound" =>
        "max.request.partition.size.limit";
    "a stop by signal is always a controlled shutdown" =>
        "controlled.shutdown.enable";
    "every partition without its preferred leader is rebalanced" =>
        "leader.imbalance.per.broker.percentage";
    USE_DURABILITY =>
        "log.flush.interval.ms"
        "log.flush.scheduler.interval.ms";
    "checkpoints are written every five seconds" =>
        "log.flush.offset.checkpoint.interval.ms"
        "log.flush.start.offset.checkpoint.interval.ms"
        "replica.high.watermark.checkpoint.interval.ms";
    "rolls are not jittered" =>
        "log.roll.jitter.hours"
        "log.roll.jitter.ms";
    NO_TIERED_STORAGE =>
        "follower.fetch.last.tiered.offset.enable"
        "log.local.retention.bytes"
        "log.local.retention.ms"
        "remote.fetch.max.wait.ms"
        "remote.list.offsets.request.timeout.ms"
        "remote.log.index.file.cache.total.size.bytes"
        "remote.log.manager.copier.thread.pool.size"
        "remote.log.manager.copy.max.bytes.per.second"
        "remote.log.manager.copy.quota.window.num"
        "remote.log.manager.copy.quota.window.size.seconds"
        "remote.log.manager.expiration.thread.pool.size"
        "remote.log.manager.fetch.max.bytes.per.second"
        "remote.log.manager.fetch.quota.window.num"
        "remote.log.manager.fetch.quota.window.size.seconds"
        "remote.log.manager.follower.thread.pool.size"
        "remote.log.manager.task.interval.ms"
        "remote.log.manager.thread.pool.size"
        "remote.log.metadata.custom.metadata.max.bytes"
        "remote.log.metadata.manager.class.name"
        "remote.log.metadata.manager.class.path"
        "remote.log.metadata.manager.impl.prefix"
        "remote.log.metadata.manager.listener.name"
        "remote.log.reader.max.pending.tasks"
        "remote.log.reader.threads"
        "remote.log.storage.manager.class.name"
        "remote.log.storage.manager.class.path"
        "remote.log.storage.manager.impl.prefix"
        "remote.log.storage.system.enable";
    "classic and consumer groups are always served" =>
        "group.coordinator.rebalance.protocols";
    "every group has the broker's intervals" =>
        "group.consumer.max.heartbeat.interval.ms"
        "group.consumer.max.session.timeout.ms"
        "group.consumer.min.heartbeat.interval.ms"
        "group.consumer.min.session.timeout.ms";
    "an assignment is made with the change that needs it" =>
        "group.consumer.assignment.interval.ms"
        "group.consumer.max.assignment.interval.ms"
        "group.consumer.min.assignment.interval.ms";
    "records of the offsets topic are not compressed" =>
        "offsets.topic.compression.codec";
    COORDINATOR_LOG =>
        "group.coordinator.append.linger.ms"
        "group.coordinator.cached.buffer.max.bytes"
        "offsets.load.buffer.size"
        "transaction.state.log.load.buffer.size";
    "a client that has to wait for the end of a transaction asks again" =>
        "add.partitions.to.txn.retry.backoff.max.ms"
        "add.partitions.to.txn.retry.backoff.ms";
    "share groups are not implemented" =>
        "group.share.assignment.interval.ms"
        "group.share.assignors"
        "group.share.delivery.count.limit"
        "group.share.heartbeat.interval.ms"
        "group.share.max.assignment.interval.ms"
        "group.share.max.delivery.count.limit"
        "group.share.max.heartbeat.interval.ms"
        "group.share.max.partition.max.record.locks"
        "group.share.max.record.lock.duration.ms"
        "group.share.max.session.timeout.ms"
        "group.share.max.share.sessions"
        "group.share.max.size"
        "group.share.min.assignment.interval.ms"
        "group.share.min.delivery.count.limit"
        "group.share.min.heartbeat.interval.ms"
        "group.share.min.partition.max.record.locks"
        "group.share.min.record.lock.duration.ms"
        "group.share.min.session.timeout.ms"
        "group.share.partition.max.record.locks"
        "group.share.record.lock.duration.ms"
        "group.share.session.timeout.ms"
        "share.coordinator.append.linger.ms"
        "share.coordinator.cached.buffer.max.bytes"
        "share.coordinator.load.buffer.size"
        "share.coordinator.snapshot.update.records.per.snapshot"
        "share.coordinator.state.topic.compression.codec"
        "share.coordinator.state.topic.min.isr"
        "share.coordinator.state.topic.num.partitions"
        "share.coordinator.state.topic.replication.factor"
        "share.coordinator.state.topic.segment.bytes"
        "share.coordinator.threads"
        "share.coordinator.write.timeout.ms"
        "share.fetch.purgatory.purge.interval.requests";
    "streams groups are not implemented" =>
        "group.streams.assignment.interval.ms"
        "group.streams.heartbeat.interval.ms"
        "group.streams.initial.rebalance.delay.ms"
        "group.streams.max.assignment.interval.ms"
        "group.streams.max.heartbeat.interval.ms"
        "group.streams.max.session.timeout.ms"
        "group.streams.max.size"
        "group.streams.max.standby.replicas"
        "group.streams.min.assignment.interval.ms"
        "group.streams.min.heartbeat.interval.ms"
        "group.streams.min.session.timeout.ms"
        "group.streams.num.standby.replicas"
        "group.streams.session.timeout.ms";
}

const fn refused(name: &'static str, reason: &'static str) -> ConfigKey {
    ConfigKey {
        name,
        kind: KeyType::String,
        default: None,
        validator: Validator::Any,
        scope: Scope::Static,
        support: Refused(reason),
        broker_keys: &[],
        doc: "",
    }
}

const fn boolean(name: &'static str, default: &'static str) -> ConfigKey {
    ConfigKey {
        kind: KeyType::Boolean,
        default: Some(default),
        ..refused(name, "")
    }
}

const fn integer(name: &'static str, default: &'static str) -> ConfigKey {
    ConfigKey {
        kind: KeyType::Int,
        ..boolean(name, default)
    }
}

const fn long(name: &'static str, default: &'static str) -> ConfigKey {
    ConfigKey {
        kind: KeyType::Long,
        ..boolean(name, default)
    }
}

const fn only(key: ConfigKey, reason: &'static str) -> ConfigKey {
    ConfigKey {
        support: OnlyDefault(reason),
        doc: reason,
        ..key
    }
}
