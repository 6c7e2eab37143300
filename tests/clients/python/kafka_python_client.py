"""kafka-python: produce, consume through a group, be a member of one, or make transactions."""
import sys
import threading
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition


def produce(bootstrap, topic, prefix, first, count):
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all", linger_ms=5,
                             enable_idempotence=True)
    futures = [producer.send(topic, f"{prefix}-{n}".encode(), key=str(n).encode())
               for n in range(int(first), int(first) + int(count))]
    producer.flush(60)
    for future in futures:
        future.get(timeout=60)
    producer.close()


def consume(bootstrap, topic, group, count):
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap.split(","), group_id=group,
                             auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed")
    seen, deadline = 0, time.monotonic() + 60
    while seen < int(count):
        if time.monotonic() > deadline:
            print(f"{seen} of {count} records within 60 s", file=sys.stderr)
            sys.exit(1)
        for records in consumer.poll(timeout_ms=1000, max_records=int(count) - seen).values():
            for record in records:
                print(record.value.decode())
                seen += 1
    consumer.commit()
    consumer.close()


class Listener(ConsumerRebalanceListener):
    """Says what changes."""

    def __init__(self, say):
        self.say = say

    def on_partitions_revoked(self, revoked):
        self.say("revoked", ",".join(str(part.partition) for part in revoked))

    def on_partitions_assigned(self, assigned):
        self.say("assigned", ",".join(str(part.partition) for part in assigned))


def member(bootstrap, topic, group, name):
    """Processes records until standard input ends. Says what happens, each line in one write: `NAME assigned P,P`,
    `NAME revoked P,P`, `NAME record P VALUE`, `NAME left`."""
    def say(*words):
        sys.stdout.write(" ".join(map(str, (name, *words))) + "\n")
        sys.stdout.flush()

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), group_id=group, auto_offset_reset="earliest",
                             enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=300)
    consumer.subscribe([topic], listener=Listener(say))
    while not stop.is_set():
        polled = consumer.poll(timeout_ms=100)
        for part, records in polled.items():
            for record in records:
                say("record", part.partition, record.value.decode())
        if polled:
            # The listener is called within a poll, where it may not commit.
            consumer.commit()
    consumer.close()
    say("left")


def transact(bootstrap, source, target, group, transactions):
    """TRANSACTIONS of ten records to TARGET, every third aborted, values `committed-T-N` and `aborted-T-N`; each moves
    GROUP's offset on SOURCE's only partition by ten."""
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), transactional_id=group)
    producer.init_transactions()
    done = 0
    for number in range(int(transactions)):
        kind = "aborted" if number % 3 == 1 else "committed"
        producer.begin_transaction()
        for n in range(10):
            producer.send(target, f"{kind}-{number}-{n}".encode(), key=str(n).encode())
        producer.send_offsets_to_transaction({TopicPartition(source, 0): OffsetAndMetadata(done + 10, "", -1)}, group)
        if kind == "aborted":
            producer.flush(60)
            producer.abort_transaction()
        else:
            producer.commit_transaction()
            done += 10
    producer.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "member": member, "transact": transact}[sys.argv[1]](*sys.argv[2:])
