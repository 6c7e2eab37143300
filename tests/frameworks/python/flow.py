"""confluent-kafka (librdkafka): a steady flow of known records until standard input ends, and what is where afterwards."""
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def text(prefix, n):
    """The N-th value: its own name and two words that come again."""
    return f"{prefix}-{n} w{n % 101} v{n % 7}"


def until_input_ends(rate):
    """0, 1, 2, ... at RATE a second, but none beyond the number that the last line of standard input holds, if there is one."""
    ended, limit = threading.Event(), [float("inf")]

    def listen():
        for line in sys.stdin:
            limit[0] = int(line)
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    start, n = time.monotonic(), 0
    while not ended.wait(0.01):
        while n < min((time.monotonic() - start) * int(rate), limit[0]):
            yield n
            n += 1


def feed(bootstrap, topic, prefix, rate):
    """Produces exactly once each; prints how many there are."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5,
                         "message.timeout.ms": 120000, "socket.connection.setup.timeout.ms": 3000,
                         "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
                         "topic.metadata.refresh.fast.interval.ms": 50})
    acked, errors, sent = [0], [], 0

    def delivered(error, _message):
        if error:
            errors.append(str(error))
        else:
            acked[0] += 1

    for n in until_input_ends(rate):
        producer.produce(topic, text(prefix, n).encode(), key=str(n % 64).encode(), on_delivery=delivered)
        producer.poll(0)
        sent = n + 1
    left = producer.flush(120)
    if errors or left or acked[0] != sent:
        fail(f"{acked[0]} of {sent} acknowledged, {left} unanswered: {errors[:3]}")
    print(sent)


def write(file, prefix, rate):
    """Appends lines to a file; prints how many there are."""
    sent = 0
    with open(file, "a", buffering=1) as out:
        for n in until_input_ends(rate):
            out.write(text(prefix, n) + "\n")
            sent = n + 1
    print(sent)


def partitions_of(client, topic):
    return sorted(client.list_topics(topic, timeout=30).topics[topic].partitions)


def dump(bootstrap, topic):
    """Prints `partition offset key value` of every committed record, partition by partition, to the end of each."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "dump", "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "isolation.level": "read_committed",
                         "enable.partition.eof": True})
    out = []
    for partition in partitions_of(consumer, topic):
        consumer.assign([TopicPartition(topic, partition, 0)])
        ended, deadline = False, time.monotonic() + 120
        while not ended:
            if time.monotonic() > deadline:
                fail(f"the end of {topic}-{partition} is not reached")
            for message in consumer.consume(1000, timeout=0.2):
                if not message.error():
                    key = (message.key() or b"-").decode()
                    value = (message.value() or b"-").decode()
                    out.append(f"{partition}\t{message.offset()}\t{key}\t{value}\n")
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ended = True
                elif not message.error().retriable():
                    fail(str(message.error()))
    consumer.close()
    sys.stdout.writelines(out)


def committed(bootstrap, topic, group):
    """Prints `partition offset` of a group, -1 where it has committed none."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    asked = [TopicPartition(topic, p) for p in partitions_of(consumer, topic)]
    for part in consumer.committed(asked, timeout=30):
        print(part.partition, max(part.offset, -1))
    consumer.close()


def create(bootstrap, topic, partitions, replicas):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(topic, num_partitions=int(partitions), replication_factor=int(replicas))
    admin.create_topics([new], request_timeout=30)[topic].result()


if __name__ == "__main__":
    {"feed": feed, "write": write, "dump": dump, "committed": committed, "create": create}[sys.argv[1]](*sys.argv[2:])
