"""confluent-kafka (librdkafka): produce, consume through a group, or produce steadily and write down every ack."""
import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer


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
        "enable.auto.commit": False, "session.timeout.ms": 10000,
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


def steady(bootstrap, topic, prefix, rate, seconds, out):
    """RATE records a second for SECONDS; OUT gets `value partition offset time` for every acked record."""
    rate, seconds = int(rate), float(seconds)
    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5,
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
                acks.write(f"{message.value().decode()} {message.partition()} {message.offset()} {time.monotonic():.6f}\n")

        start, n = time.monotonic(), 0
        while time.monotonic() - start < seconds:
            due = int((time.monotonic() - start) * rate)
            while n < due:
                try:
                    producer.produce(topic, f"{prefix}-{n}".encode(), key=str(n % 64).encode(), on_delivery=delivered)
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
    from confluent_kafka import TopicPartition
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
            print(message.value().decode(), message.partition(), message.offset())
            at = message.offset() + 1
    consumer.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "steady": steady, "dump": dump}[sys.argv[1]](*sys.argv[2:])
