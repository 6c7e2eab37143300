"""confluent-kafka (librdkafka): producers, transactional producers and consumers for a while; writes their history, a JSON
object a line (tests/checker/history.rs says what they mean). The faults come from elsewhere.

    queue_workload.py BOOTSTRAP TOPIC SECONDS SEED OUT
"""
import json
import random
import sys
import threading
import time

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

PARTITIONS = 4
PRODUCERS, TRANSACTIONAL, ASSIGNED, SUBSCRIBED = 3, 6, 2, 2
RATE = 150  # records a second of each producer
GROUP = "observed"
# How long the ends of the log, and then each consumer, may take when all is healed.
PATIENCE = 60
FAST = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.fast.interval.ms": 50,
        "socket.connection.setup.timeout.ms": 2000, "socket.timeout.ms": 10000, "log_level": 2}


class History:
    def __init__(self, path):
        self.out = open(path, "w", buffering=1)
        self.lock = threading.Lock()
        self.start = time.monotonic()

    def now(self):
        return round(time.monotonic() - self.start, 4)

    def write(self, kind, **fields):
        with self.lock:
            self.out.write(json.dumps({"type": kind, "t": self.now(), **fields}, separators=(",", ":")) + "\n")


class Run:
    """What all threads share."""

    def __init__(self, bootstrap, topic, seconds, seed, out):
        self.bootstrap, self.topic, self.seed = bootstrap, topic, seed
        self.history = History(out)
        self.deadline = time.monotonic() + float(seconds)
        self.ends = None
        self.errors = []

    def random(self, name):
        return random.Random(f"{self.seed}/{name}")

    def loading(self):
        return time.monotonic() < self.deadline

    def config(self, **more):
        return {"bootstrap.servers": self.bootstrap, **FAST, **{key.replace("_", "."): v for key, v in more.items()}}

    def spawn(self, act, *args):
        def run():
            try:
                act(self, *args)
            except Exception as error:  # noqa: BLE001 - the thread's end is reported by main
                self.errors.append(f"{act.__name__}{args}: {error!r}")
        thread = threading.Thread(target=run)
        thread.start()
        return thread


class Sender:
    """One instance of a producer: numbers its records and writes down what became of them."""

    def __init__(self, run, instance, **config):
        self.run, self.instance, self.number = run, instance, 0
        self.producer = Producer(run.config(linger_ms=5, **config))

    def send(self, partition, **fields):
        value = f"{self.instance}-{self.number}"
        self.run.history.write("send", value=value, partition=partition, **fields)
        try:
            self.producer.produce(self.run.topic, value.encode(), partition=partition, on_delivery=self.delivered)
        except BufferError:
            self.run.history.write("fail", value=value, definite=True, error="queue full")
            self.producer.poll(0.1)
        self.number += 1

    def delivered(self, error, message):
        value = message.value().decode()
        if error:
            self.run.history.write("fail", value=value, definite=False, error=str(error))
        else:
            self.run.history.write("ack", value=value, partition=message.partition(), offset=message.offset())


def idempotent(run, name):
    chance, instance, sender = run.random(name), 0, None
    started, due = time.monotonic(), 0
    while run.loading():
        if sender is None:
            sender = Sender(run, f"{name}.{instance}", enable_idempotence=True, message_timeout_ms=60000)
            instance += 1
        try:
            while due < (time.monotonic() - started) * RATE:
                sender.send(chance.randrange(PARTITIONS))
                due += 1
            sender.producer.poll(0.005)
        except KafkaException as error:
            if not error.args[0].fatal():
                raise
            sender.producer.flush(10)
            sender = None
    if sender is not None:
        sender.producer.flush(60)


def patiently(run, act):
    """Tries again what can be tried again, for a while after the load's end too."""
    deadline = max(run.deadline, time.monotonic()) + 30
    while True:
        try:
            return act()
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise


def transaction(run, sender, chance, txn):
    """One transaction; its outcome, and whether the producer can go on."""
    producer, abort = sender.producer, chance.random() < 0.35
    try:
        producer.begin_transaction()
        for _ in range(chance.randrange(1, 9)):
            sender.send(chance.randrange(PARTITIONS), txn=txn)
            producer.poll(0)
        if chance.random() < 0.5:
            # Everything is acknowledged, and only the end is missing.
            producer.flush(5)
            producer.poll(chance.random() * 0.5)
        if not abort:
            patiently(run, lambda: producer.commit_transaction(15))
            return "committed", True
        if chance.random() < 0.8:
            producer.flush(5)
        patiently(run, lambda: producer.abort_transaction(15))
        return "aborted", True
    except KafkaException as error:
        run.history.write("note", text=f"{txn}: {error}")
        if not error.args[0].txn_requires_abort():
            return "unknown", False
    try:
        patiently(run, lambda: producer.abort_transaction(15))
        return "aborted", True
    except KafkaException as error:
        run.history.write("note", text=f"{txn}: {error}")
        return "unknown", False


def transactional(run, name):
    chance, instance, sender, number = run.random(name), 0, None, 0
    while run.loading():
        if sender is None:
            sender = Sender(run, f"{name}.{instance}", transactional_id=f"{run.topic}-{name}",
                            transaction_timeout_ms=10000)
            instance += 1
            try:
                patiently(run, lambda: sender.producer.init_transactions(15))
            except KafkaException as error:
                run.history.write("note", text=f"{name}: init: {error}")
                sender = None
                continue
        txn = f"{name}/{number}"
        outcome, usable = transaction(run, sender, chance, txn)
        run.history.write("end", txn=txn, outcome=outcome)
        number += 1
        if not usable:
            sender = None
        else:
            sender.producer.poll(chance.random() * 0.1)


class Reader:
    """A consumer's reads, and how far it came in each partition."""

    def __init__(self, run, name, group):
        self.run, self.name, self.group, self.at = run, name, group, {}
        self.give_up, self.records = None, []

    def consumer(self, group):
        return Consumer(self.run.config(
            group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed",
            enable_partition_eof=True, session_timeout_ms=6000, heartbeat_interval_ms=500, fetch_wait_max_ms=100,
            fetch_error_backoff_ms=50))

    def session(self, positions):
        self.write_down()
        self.run.history.write("session", consumer=self.name, positions=positions)

    def write_down(self):
        if self.records:
            self.run.history.write("poll", consumer=self.name, records=self.records)
            self.records = []

    def read(self, consumer, seconds):
        """What comes in so many seconds and what is there then: whether it was anything."""
        # One at a time: a batch could hold records of before and after a rebalance.
        message, count = consumer.poll(seconds), 0
        while message is not None:
            error = message.error()
            if error is None:
                self.records.append((message.partition(), message.offset(), message.value().decode()))
                self.came_to(message.partition(), message.offset() + 1)
                count += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self.came_to(message.partition(), message.offset())
            elif not error.retriable():
                self.run.history.write("note", text=f"{self.name}: {error}")
            message = consumer.poll(0) if count < 500 else None
        self.write_down()
        return count > 0

    def came_to(self, partition, offset):
        self.at[partition] = max(offset, self.at.get(partition, 0))

    def going(self, reached):
        """Until the ends are known and reached, and not for ever."""
        ends = self.run.ends
        if ends is None:
            return True
        self.give_up = self.give_up or time.monotonic() + PATIENCE
        return time.monotonic() < self.give_up and not all(reached.get(p, 0) >= end for p, (_, end) in ends.items())

    def finish(self):
        self.run.history.write("reached", group=self.group, positions=self.at)


def assigned(run, name):
    reader, chance = Reader(run, name, name), run.random(name)
    consumer = reader.consumer(f"{run.topic}-{name}")
    positions = {p: 0 for p in range(PARTITIONS)}
    back_at = time.monotonic() + 5
    while True:
        reader.session(positions)
        consumer.assign([TopicPartition(run.topic, p, at) for p, at in positions.items()])
        while reader.going(reader.at):
            reader.read(consumer, 0.1)
            if run.loading() and time.monotonic() > back_at:
                break
        else:
            break
        # Some records once more: they must be the same.
        back_at = time.monotonic() + 5 + chance.random() * 10
        positions = {p: max(0, reader.at.get(p, 0) - chance.randrange(500)) for p in range(PARTITIONS)}
    reader.finish()
    consumer.close()


def subscribed(run, name, came_to):
    """A member of the group that commits now and then, leaves and comes back."""
    reader, chance = Reader(run, name, GROUP), run.random(name)
    reader.at = came_to

    def on_assign(consumer, partitions):
        reader.session({})
        asked = run.history.now()
        try:
            found = consumer.committed(partitions, timeout=5)
        except KafkaException:
            return
        offsets = {p.partition: max(p.offset, 0) for p in found if p.error is None}
        run.history.write("committed", offsets=offsets, t=asked)

    def commit(consumer):
        try:
            done = consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                run.history.write("note", text=f"{name}: commit: {error}")
            return
        run.history.write("commit", offsets={p.partition: p.offset for p in done if p.error is None and p.offset >= 0})

    while reader.going(came_to):
        consumer = reader.consumer(f"{run.topic}-{GROUP}")
        consumer.subscribe([run.topic], on_assign=on_assign)
        leave_at = time.monotonic() + 6 + chance.random() * 12
        while reader.going(came_to) and not (run.loading() and time.monotonic() > leave_at):
            if reader.read(consumer, 0.1) and chance.random() < 0.3:
                commit(consumer)
        consumer.close()
    reader.finish()


def ends(run):
    """Last stable offset and end of each partition, once open transactions have timed out; or as they are then."""
    admin = AdminClient(run.config())
    wanted = {TopicPartition(run.topic, p): OffsetSpec.latest() for p in range(PARTITIONS)}
    deadline, found = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        levels = []
        try:
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
                answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=5)
                levels.append({part.partition: answer.result().offset for part, answer in answers.items()})
        except KafkaException as error:
            run.history.write("note", text=f"ends: {error}")
            continue
        found = {p: (levels[0][p], levels[1][p]) for p in levels[0]}
        if all(stable == end for stable, end in found.values()):
            break
        time.sleep(0.2)
    return found


def create(run):
    admin = AdminClient(run.config())
    future = admin.create_topics([NewTopic(run.topic, num_partitions=PARTITIONS, replication_factor=3)],
                                 request_timeout=30, operation_timeout=30)[run.topic]
    future.result()


def main(bootstrap, topic, seconds, seed, out):
    run = Run(bootstrap, topic, seconds, seed, out)
    create(run)
    load = [run.spawn(idempotent, f"p{n}") for n in range(PRODUCERS)]
    load += [run.spawn(transactional, f"t{n}") for n in range(TRANSACTIONAL)]
    readers = [run.spawn(assigned, f"a{n}") for n in range(ASSIGNED)]
    came_to = {}
    readers += [run.spawn(subscribed, f"s{n}", came_to) for n in range(SUBSCRIBED)]
    for thread in load:
        thread.join()
    found = ends(run)
    if found is not None:
        run.history.write("ends", ends=found)
    run.ends = found or {}
    readers.append(run.spawn(assigned, "final"))
    for thread in readers:
        thread.join()
    if run.errors:
        print("\n".join(run.errors), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
