"""A topic as Fink publishes it (the key is the schema, the value one schemaless alert), and files that finkctl saved.

    fink_topic.py create|delete BOOTSTRAP TOPIC
    fink_topic.py ids BOOTSTRAP TOPIC      the ids of its alerts, one a line, sorted
    fink_topic.py saved FOLDER             the ids in the Avro files there, the same way
"""

import io
import json
import sys
from pathlib import Path

import fastavro
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def alert_id(alert):
    return alert["candid"] if "candid" in alert else alert["diaSourceId"]


def alerts(bootstrap, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False,
                         "isolation.level": "read_committed", "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    ended = 0
    while ended < len(partitions):
        message = consumer.poll(30)
        assert message is not None, "the broker is silent"
        if message.error():
            ended += 1
            continue
        schema = fastavro.parse_schema(json.loads(message.key()))
        yield fastavro.schemaless_reader(io.BytesIO(message.value()), schema)
    consumer.close()


def saved(folder):
    for path in Path(folder).rglob("*.avro"):
        with open(path, "rb") as f:
            yield from fastavro.reader(f)


def main():
    what, *where = sys.argv[1:]
    if what in ("create", "delete"):
        admin = AdminClient({"bootstrap.servers": where[0], "log_level": 4})
        done = admin.create_topics([NewTopic(where[1], 2, 1)]) if what == "create" else admin.delete_topics([where[1]])
        done[where[1]].result(30)
        return
    found = alerts(*where) if what == "ids" else saved(*where)
    print("".join(f"{number}\n" for number in sorted(alert_id(alert) for alert in found)), end="")


main()
