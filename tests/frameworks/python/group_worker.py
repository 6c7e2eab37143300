"""confluent-kafka (librdkafka) as a member of a group: `BOOT TOPIC GROUP NAME PROTOCOL`, until standard input ends. PROTOCOL
is an assignor or `consumer` (KIP-848). Says what happens, a write a line, as tests/frameworks/groups/history.rs reads it."""
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

FAST = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.fast.interval.ms": 50,
        "socket.connection.setup.timeout.ms": 3000}


def numbers(partitions):
    return ",".join(str(part.partition) for part in partitions)


class Worker:
    def __init__(self, bootstrap, topic, group, name, protocol):
        self.topic, self.name = topic, name
        # What is processed and not committed: the next offset of each partition.
        self.pending = {}
        config = {"bootstrap.servers": bootstrap, "group.id": group, "client.id": name, "auto.offset.reset": "earliest",
                  "enable.auto.commit": False, **FAST}
        if protocol == "consumer":
            config["group.protocol"] = "consumer"
        else:
            config |= {"partition.assignment.strategy": protocol, "session.timeout.ms": 10000, "heartbeat.interval.ms": 300}
        self.config, self.consumer = config, None

    def say(self, *words):
        """With nanoseconds of Linux's monotonic clock, which all processes share."""
        sys.stdout.write(" ".join(map(str, (time.monotonic_ns(), self.name, *words))) + "\n")
        sys.stdout.flush()

    def run(self):
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        while not stop.is_set():
            self.session(stop)

    def session(self, stop):
        """A membership, until it is told to stop or cannot go on."""
        self.consumer, stuck = Consumer(self.config), False
        self.say("joining")
        self.consumer.subscribe([self.topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
        while not stop.is_set() and not stuck:
            for message in self.consumer.consume(500, timeout=0.1):
                if message.error():
                    print(message.error(), file=sys.stderr)
                    # librdkafka 2.16 never asks again for committed offsets that another broker than the coordinator was
                    # asked for (its issue 5586): only who joins anew consumes those partitions.
                    stuck = stuck or message.error().code() == KafkaError.NOT_COORDINATOR
                    continue
                name = message.value().decode().split(" ")[0]
                self.say("record", message.partition(), message.offset(), name)
                self.pending[message.partition()] = message.offset() + 1
            self.commit(list(self.pending))
        self.say("leaving")
        self.consumer.close()
        self.pending.clear()
        self.say("left")

    def commit(self, partitions):
        """Commits, and forgets what was committed; what was refused is tried again as long as the partition is owned."""
        offsets = [TopicPartition(self.topic, p, self.pending[p]) for p in partitions if p in self.pending]
        if not offsets:
            return
        self.say("committing", ",".join(f"{part.partition}:{part.offset}" for part in offsets))
        try:
            answers = self.consumer.commit(offsets=offsets, asynchronous=False)
            errors = {part.partition: part.error.name() for part in answers if part.error}
        except KafkaException as error:
            errors = {part.partition: error.args[0].name() for part in offsets}
        good = [part for part in offsets if part.partition not in errors]
        for part in offsets:
            if part.partition in errors:
                self.say("refused", f"{part.partition}:{part.offset}", errors[part.partition])
        if good:
            self.say("committed", ",".join(f"{part.partition}:{part.offset}" for part in good))
        for part in good:
            del self.pending[part.partition]

    def assigned(self, _, partitions):
        self.say("assigned", numbers(partitions))

    def revoked(self, _, partitions):
        self.say("revoking", numbers(partitions))
        self.commit([part.partition for part in partitions])
        self.forget(partitions)
        self.say("revoked", numbers(partitions))

    def lost(self, _, partitions):
        self.forget(partitions)
        self.say("lost", numbers(partitions))

    def forget(self, partitions):
        for part in partitions:
            self.pending.pop(part.partition, None)


if __name__ == "__main__":
    Worker(*sys.argv[1:]).run()
