"""confluent-kafka (librdkafka): produce, consume through a group, be a member of one, make transactions, or produce
steadily and write down every ack."""
import os
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def produce(bootstrap, topic, prefix, first, count):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
    acked, errors = [], []

    def delivered(error, message):
        (errors if error else acked).append(error or message.offset())

    for n in range(int(first), int(first) + int(count)):
        producer.produce(topic, f"{prefix}-{n}".encode(), key=str(n).encode(), on_delivery=delivered)
        producer.poll(0)
    producer.flush(60)
    if errors or len(acked) != int(count):
        fail(f"{len(acked)} of {count} acked, errors: {errors[:3]}")


def consume(bootstrap, topic, group, count):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 10000, "isolation.level": "read_committed",
        "client.rack": os.environ.get("CLIENT_RACK", ""),
    })
    consumer.subscribe([topic])
    seen, deadline = 0, time.monotonic() + 60
    while seen < int(count):
        message = consumer.poll(1)
        if time.monotonic() > deadline:
            fail(f"{seen} of {count} records within 60 s")
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF or message.error().retriable():
                continue
            fail(str(message.error()))
        print(message.value().decode())
        seen += 1
    consumer.commit(asynchronous=False)
    consumer.close()


def member(bootstrap, topic, group, name):
    """Processes records until standard input ends. Says what happens, each line in one write: `NAME assigned P,P`,
    `NAME revoked P,P`, `NAME record P VALUE`, `NAME left`."""
    def say(*words):
        sys.stdout.write(" ".join(map(str, (name, *words))) + "\n")
        sys.stdout.flush()

    def numbers(partitions):
        return ",".join(str(part.partition) for part in partitions)

    def commit(consumer):
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:
                raise

    def revoked(consumer, partitions):
        commit(consumer)
        say("revoked", numbers(partitions))

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 10000, "heartbeat.interval.ms": 300,
    })
    consumer.subscribe([topic], on_assign=lambda _, partitions: say("assigned", numbers(partitions)), on_revoke=revoked)
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is None:
            continue
        if not message.error():
            say("record", message.partition(), message.value().decode())
        elif not message.error().retriable():
            fail(str(message.error()))
    consumer.close()
    say("left")


def transact(bootstrap, source, target, group, transactions):
    """TRANSACTIONS of ten records to TARGET, every third aborted, values `committed-T-N` and `aborted-T-N`; each moves
    GROUP's offset on SOURCE's only partition by ten."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": group})
    producer.init_transactions(60)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    done = 0
    for number in range(int(transactions)):
        kind = "aborted" if number % 3 == 1 else "committed"
        producer.begin_transaction()
        for n in range(10):
            producer.produce(target, f"{kind}-{number}-{n}".encode(), key=str(n).encode())
        producer.send_offsets_to_transaction([TopicPartition(source, 0, done + 10)], consumer.consumer_group_metadata(), 60)
        if kind == "aborted":
            producer.flush(60)
            producer.abort_transaction(60)
        else:
            producer.commit_transaction(60)
            done += 10
    consumer.close()


def steady(bootstrap, topic, prefix, rate, seconds, out, size=0):
    """RATE records a second for SECONDS; OUT gets `value partition offset time` for every acked record. Values are filled
    up with spaces to SIZE bytes."""
    rate, seconds, size = int(rate), float(seconds), int(size)
    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5,
        "batch.size": 16384 if size else 1000000,
        "message.timeout.ms": 60000, "socket.connection.setup.timeout.ms": 3000,
        "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
        "topic.metadata.refresh.fast.interval.ms": 50,
    })
    with open(out, "w", buffering=1) as acks:
        failed = []

        def delivered(error, message):
            if error:
                failed.append(str(error))
            else:
                value = message.value().decode().rstrip()
                acks.write(f"{value} {message.partition()} {message.offset()} {time.monotonic():.6f}\n")

        start, n = time.monotonic(), 0
        while time.monotonic() - start < seconds:
            due = int((time.monotonic() - start) * rate)
            while n < due:
                try:
                    value = f"{prefix}-{n}".ljust(size)
                    producer.produce(topic, value.encode(), key=str(n % 64).encode(), on_delivery=delivered)
                    n += 1
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0.002)
        left = producer.flush(60)
        if failed or left:
            fail(f"{len(failed)} failed, {left} never answered: {failed[:3]}")
    print(n)


def dump(bootstrap, topic):
    """Prints `value partition offset` of every record there is, by partition and offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "dump", "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    partitions = [TopicPartition(topic, p) for p in consumer.list_topics(topic, timeout=30).topics[topic].partitions]
    for part in partitions:
        low, high = consumer.get_watermark_offsets(part, timeout=30)
        consumer.assign([TopicPartition(topic, part.partition, low)])
        at, deadline = low, time.monotonic() + 60
        while at < high:
            message = consumer.poll(1)
            if time.monotonic() > deadline:
                fail(f"{topic}-{part.partition}: stuck at {at} of {high}")
            if message is None:
                continue
            if message.error():
                if message.error().retriable() or message.error().code() == KafkaError._PARTITION_EOF:
                    continue
                fail(str(message.error()))
            print(message.value().decode().rstrip(), message.partition(), message.offset())
            at = message.offset() + 1
    consumer.close()


def commit_often(bootstrap, topic, group, times, metadata_bytes):
    """Commits TIMES offsets for every partition, the last one TIMES, each with so much metadata."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    note = "m" * int(metadata_bytes)
    for n in range(1, int(times) + 1):
        consumer.commit(offsets=[TopicPartition(topic, p, n, metadata=note) for p in partitions], asynchronous=False)
    consumer.close()


def committed(bootstrap, topic, group):
    """Prints the group's committed offset of every partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    for part in consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=30):
        print(part.offset)
    consumer.close()


def create_on_line(bootstrap):
    """For every line NAME on standard input: creates the topic, trying until it works; prints the seconds it took."""
    from confluent_kafka.admin import AdminClient, NewTopic
    admin = AdminClient({"bootstrap.servers": bootstrap, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50,
                         "socket.timeout.ms": 1000})
    admin.list_topics(timeout=30)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.monotonic()
        while True:
            try:
                future = admin.create_topics([NewTopic(line.strip(), num_partitions=1, replication_factor=3)],
                                             request_timeout=1.0, operation_timeout=1.0)[line.strip()]
                future.result()
                break
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    break
                if time.monotonic() - start > 30:
                    fail(f"{line.strip()}: {error}")
        print(f"{time.monotonic() - start:.4f}", flush=True)


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "member": member, "transact": transact, "steady": steady, "dump": dump,
     "commit_often": commit_often, "committed": committed, "create_on_line": create_on_line}[sys.argv[1]](*sys.argv[2:])
