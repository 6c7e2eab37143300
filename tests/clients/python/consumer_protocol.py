"""confluent-kafka (librdkafka) with group.protocol=consumer (KIP-848): BOOTSTRAP TOPIC GROUP, six partitions of one record each or more."""
import sys
import time

from confluent_kafka import Consumer, TopicPartition

PARTITIONS = 6


def member(bootstrap, group, **more):
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "group.protocol": "consumer",
        "auto.offset.reset": "earliest", "enable.auto.commit": False, **more,
    })


def until(what, members, holds):
    """Polls all members until the condition holds; values go to standard output."""
    deadline = time.monotonic() + 90
    while not holds():
        if time.monotonic() > deadline:
            shares = [len(one.assignment()) for one in members]
            print(f"{what}: not within 90 s, shares {shares}", file=sys.stderr)
            sys.exit(1)
        for one in members:
            message = one.poll(0.05)
            if message is not None and not message.error():
                print(message.value().decode())


def has(one, count):
    return len(one.assignment()) == count


def main(bootstrap, topic, group):
    first = member(bootstrap, group)
    first.subscribe([topic])
    until("alone", [first], lambda: has(first, PARTITIONS))
    second = member(bootstrap, group)
    second.subscribe([f"^{topic}$"])  # a regular expression
    until("two share", [first, second], lambda: has(first, 3) and has(second, 3))
    second.close()
    until("one left", [first], lambda: has(first, PARTITIONS))
    offsets = [TopicPartition(topic, partition, 1) for partition in range(PARTITIONS)]
    first.commit(offsets=offsets, asynchronous=False)
    committed = first.committed(offsets, timeout=30)
    if [one.offset for one in committed] != [1] * PARTITIONS:
        print(f"committed: {committed}", file=sys.stderr)
        sys.exit(1)
    first.close()
    for assignor in ["uniform", "range"]:
        static = member(bootstrap, group + "-static", **{"group.instance.id": "one", "group.remote.assignor": assignor})
        static.subscribe([topic])
        until(f"static, {assignor}", [static], lambda: has(static, PARTITIONS))
        static.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
