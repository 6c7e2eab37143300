"""confluent-kafka (librdkafka) transactions: produce some committed and some aborted, copy a topic exactly once, look."""
import faulthandler
import os
import sys
import threading
import time

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

FAST = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.fast.interval.ms": 50,
        "socket.connection.setup.timeout.ms": 3000}
if os.environ.get("TIDEMARK_LIBRDKAFKA_DEBUG"):
    FAST["debug"] = os.environ["TIDEMARK_LIBRDKAFKA_DEBUG"]


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def produce(bootstrap, topic, transactional_id, transactions):
    """TRANSACTIONS of ten records; every third is aborted. Values are `committed-T-N` and `aborted-T-N`."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": transactional_id, **FAST})
    producer.init_transactions(60)
    for number in range(int(transactions)):
        kind = "aborted" if number % 3 == 2 else "committed"
        producer.begin_transaction()
        for n in range(10):
            producer.produce(topic, f"{kind}-{number}-{n}".encode(), key=str(n).encode())
        if kind == "aborted":
            producer.flush(60)
            producer.abort_transaction(60)
        else:
            producer.commit_transaction(60)


class Copier:
    """Consumes SOURCE in GROUP and produces every record to TARGET, offsets in the same transaction."""

    def __init__(self, bootstrap, source, target, group):
        self.target = target
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                                  "auto.offset.reset": "earliest", "isolation.level": "read_committed",
                                  "session.timeout.ms": 10000, **FAST})
        self.consumer.subscribe([source])
        self.producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"copier-{group}",
                                  "transaction.timeout.ms": 20000, **FAST})
        self.patiently(lambda: self.producer.init_transactions(30))

    @staticmethod
    def patiently(act):
        """Tries again what can be tried again, for a while."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return act()
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise

    def rewind(self):
        """Goes on where the last committed transaction ended."""
        assigned = self.consumer.assignment()
        if not assigned:
            return
        for part in self.patiently(lambda: self.consumer.committed(assigned, timeout=10)):
            offset = part.offset if part.offset >= 0 else 0
            self.consumer.seek(TopicPartition(part.topic, part.partition, offset))

    def batch(self):
        """Copies what there is within one transaction; how many records were committed."""
        messages = self.consumer.consume(100, timeout=0.5)
        errors = [m.error() for m in messages if m.error()]
        if any(not e.retriable() and e.code() != KafkaError._PARTITION_EOF for e in errors):
            fail(str(errors[0]))
        messages = [m for m in messages if not m.error()]
        if not messages:
            return 0
        self.producer.begin_transaction()
        try:
            for m in messages:
                self.producer.produce(self.target, m.value(), key=m.key())
                self.producer.poll(0)
            positions = [TopicPartition(p.topic, p.partition, p.offset) for p in self.consumer.position(
                self.consumer.assignment()) if p.offset >= 0]
            metadata = self.consumer.consumer_group_metadata()
            self.patiently(lambda: self.producer.send_offsets_to_transaction(positions, metadata, 30))
            self.patiently(lambda: self.producer.commit_transaction(30))
            return len(messages)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            print(f"aborting: {error}", file=sys.stderr)
            self.patiently(lambda: self.producer.abort_transaction(30))
            self.rewind()
            return 0


def copy(bootstrap, source, target, group, count, progress):
    """Until COUNT records of SOURCE are committed by the group, with COUNT 0 until standard input ends; PROGRESS gets a
    line for each transaction."""
    deadline, ended = time.monotonic() + 150, threading.Event()
    endless = int(count) == 0
    if endless:
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    copier = Copier(bootstrap, source, target, group)
    with open(progress, "a", buffering=1) as out:
        done = 0
        while not ended.is_set() if endless else done < int(count):
            # librdkafka 2.16 may wait for ever in send_offsets_to_transaction when the group's coordinator goes away (its
            # issues 5456 and 5511): the process ends then, and says where it was.
            faulthandler.dump_traceback_later(120, exit=True)
            if time.monotonic() > deadline and not endless:
                fail(f"{done} of {count} copied")
            copied = copier.batch()
            done += copied
            if copied:
                out.write(f"{done}\n")
    faulthandler.cancel_dump_traceback_later()
    copier.consumer.close()


def committed(bootstrap, topic):
    """Prints the value of every record that a reader of committed records gets, until the end of each partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "committed", "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "isolation.level": "read_committed",
                         "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    left, deadline = set(partitions), time.monotonic() + 60
    while left:
        if time.monotonic() > deadline:
            fail(f"the end of {left} is not reached")
        message = consumer.poll(1)
        if message is None:
            continue
        if not message.error():
            print(message.value().decode())
        elif message.error().code() == KafkaError._PARTITION_EOF:
            left.discard(message.partition())
        elif not message.error().retriable():
            fail(str(message.error()))
    consumer.close()


def ends(bootstrap, topic):
    """Prints `partition last-stable-offset high-watermark` of every partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    partitions = admin.list_topics(topic, timeout=30).topics[topic].partitions
    wanted = {TopicPartition(topic, p): OffsetSpec.latest() for p in partitions}
    found = []
    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=30)
        found.append({part.partition: answer.result().offset for part, answer in answers.items()})
    for partition in sorted(partitions):
        print(partition, found[0][partition], found[1][partition])


if __name__ == "__main__":
    {"produce": produce, "copy": copy, "committed": committed, "ends": ends}[sys.argv[1]](*sys.argv[2:])
