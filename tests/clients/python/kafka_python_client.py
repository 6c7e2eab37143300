"""kafka-python: produce, or consume through a group."""
import sys
import time

from kafka import KafkaConsumer, KafkaProducer


def produce(bootstrap, topic, prefix, first, count):
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all", linger_ms=5)
    futures = [producer.send(topic, f"{prefix}-{n}".encode(), key=str(n).encode())
               for n in range(int(first), int(first) + int(count))]
    producer.flush(60)
    for future in futures:
        future.get(timeout=60)
    producer.close()


def consume(bootstrap, topic, group, count):
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap.split(","), group_id=group,
                             auto_offset_reset="earliest", enable_auto_commit=False)
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


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
