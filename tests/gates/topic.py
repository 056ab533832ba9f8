"""Topics as another client reads them. Imported after `lib.in_test_venv()`."""

import io

import fastavro
from confluent_kafka import Consumer, TopicPartition

import lib


def records(servers, topic, isolation="read_committed"):
    """Every record that a reader of this isolation gets, up to the end of each partition as it is now."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "redpoll-gate",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "log_level": 4,
        }
    )
    try:
        partitions = consumer.list_topics(topic, 30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found, ended = [], set()
        while len(ended) < len(partitions):
            message = consumer.poll(30)
            if message is None:
                raise lib.TimedOut(f"topic {topic}: the broker is silent, or a transaction was left open")
            if message.error():
                ended.add(message.partition())
            else:
                found.append(message)
        return found
    finally:
        consumer.close()


def offsets(servers, topic):
    """{partition: (first, end)}; nothing if there is no such topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "redpoll-gate"})
    try:
        found = consumer.list_topics(topic, timeout=20).topics[topic]
        if found.error:
            return {}
        return {number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20) for number in found.partitions}
    finally:
        consumer.close()


def of_folder(folder):
    """Every alert of a topic that is a folder."""
    return [alert for file in sorted(folder.glob("*.avro")) for alert in fastavro.reader(io.BytesIO(file.read_bytes()))]
