"""aiokafka: produce, or consume through a group."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


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
                                auto_offset_reset="earliest", enable_auto_commit=False)
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


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for({"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:]), 90))
