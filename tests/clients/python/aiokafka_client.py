"""aiokafka: produce, consume through a group, be a member of one, or make transactions."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition


async def produce(bootstrap, topic, prefix, first, count):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, enable_idempotence=True)
    await producer.start()
    try:
        futures = [await producer.send(topic, f"{prefix}-{n}".encode(), key=str(n).encode())
                   for n in range(int(first), int(first) + int(count))]
        await asyncio.gather(*futures)
    finally:
        await producer.stop()


async def consume(bootstrap, topic, group, count):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group,
                                auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed")
    await consumer.start()
    try:
        seen = 0
        while seen < int(count):
            batches = await consumer.getmany(timeout_ms=1000, max_records=int(count) - seen)
            for records in batches.values():
                for record in records:
                    print(record.value.decode())
                    seen += 1
        await consumer.commit()
    finally:
        await consumer.stop()


class Listener(ConsumerRebalanceListener):
    """Commits what was processed before it is given up, and says what changes."""

    def __init__(self, consumer, say):
        self.consumer, self.say = consumer, say

    async def on_partitions_revoked(self, revoked):
        if revoked:
            await self.consumer.commit()
        self.say("revoked", ",".join(str(part.partition) for part in revoked))

    def on_partitions_assigned(self, assigned):
        self.say("assigned", ",".join(str(part.partition) for part in assigned))


async def member(bootstrap, topic, group, name):
    """Processes records until standard input ends. Says what happens, each line in one write: `NAME assigned P,P`,
    `NAME revoked P,P`, `NAME record P VALUE`, `NAME left`."""
    def say(*words):
        sys.stdout.write(" ".join(map(str, (name, *words))) + "\n")
        sys.stdout.flush()

    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
                                enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=300)
    consumer.subscribe([topic], listener=Listener(consumer, say))
    await consumer.start()
    while not stop.done():
        for part, records in (await consumer.getmany(timeout_ms=100)).items():
            for record in records:
                say("record", part.partition, record.value.decode())
    # stop() leaves without a word to the listener.
    await consumer.commit()
    say("revoked", ",".join(str(part.partition) for part in consumer.assignment()))
    await consumer.stop()
    say("left")


async def transact(bootstrap, source, target, group, transactions):
    """TRANSACTIONS of ten records to TARGET, every third aborted, values `committed-T-N` and `aborted-T-N`; each moves
    GROUP's offset on SOURCE's only partition by ten."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=group)
    await producer.start()
    done = 0
    for number in range(int(transactions)):
        kind = "aborted" if number % 3 == 1 else "committed"
        await producer.begin_transaction()
        await asyncio.gather(*[await producer.send(target, f"{kind}-{number}-{n}".encode(), key=str(n).encode())
                               for n in range(10)])
        await producer.send_offsets_to_transaction({TopicPartition(source, 0): done + 10}, group)
        if kind == "aborted":
            await producer.abort_transaction()
        else:
            await producer.commit_transaction()
            done += 10
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for({"produce": produce, "consume": consume, "member": member, "transact": transact}[sys.argv[1]](*sys.argv[2:]), 90))
