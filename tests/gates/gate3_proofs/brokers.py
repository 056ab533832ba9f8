"""Kafka as a source: several writer schemas in a partition, patterns of topics, a login, a time to start at."""

import datetime
import io
import json
import os
import struct
import time
import urllib.request
from contextlib import contextmanager

import fastavro
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from folders import simulate
from gate import ROOT, archive, file, match, redpoll, run, settings, sql
from values import key, plain, read

STAMP = int(time.time())
# Fields of schema 10.0 that may be null, and that 11.0 always has.
ALWAYS_IN_V11 = {"psfNdata", "trailNdata", "dipoleNdata", "bboxSize"} | {f"{band}_psfFluxNdata" for band in "ugrizy"}

COPY = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ztf'${options});
CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
INSERT INTO copy SELECT objectId, candid, candidate FROM alerts;
"""


def servers():
    return os.environ["KAFKA_BOOTSTRAP"]


@contextmanager
def topics(*names, partitions=1):
    """Topics of our own, gone afterwards."""
    admin = AdminClient({"bootstrap.servers": servers(), "log_level": 4})
    names = [f"gate3_{STAMP}_{name}" for name in names]
    for made in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        made.result(30)
    try:
        yield names
    finally:
        for gone in admin.delete_topics(names).values():
            gone.result(30)


def send(topic, values, **more):
    producer = Producer({"bootstrap.servers": servers(), "enable.idempotence": True, "log_level": 4})
    for value in values:
        producer.produce(topic, value=value, **more)
    assert producer.flush(60) == 0


def v11(schema):
    """Schema 10.0 of an LSST alert as 11.0 has it."""
    schema = json.loads(json.dumps(schema).replace("v10_0", "v11_0"))

    def walk(node):
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            for field in node.get("fields", []):
                if field["name"] in ALWAYS_IN_V11:
                    field.update(type="int", default=0)
                    field["type"] = "int"
            for value in node.values():
                walk(value)

    walk(schema)
    return schema


def filled(node):
    """The values that 11.0 does not leave out."""
    if isinstance(node, list):
        return [filled(item) for item in node]
    if isinstance(node, dict):
        return {name: 0 if name in ALWAYS_IN_V11 and value is None else filled(value) for name, value in node.items()}
    return node


def register(registry, subject, schema):
    """Registers a schema, and gives its number."""
    body = json.dumps({"schema": json.dumps(schema)}).encode()
    kind = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(f"{registry}/subjects/{subject}/versions", body, kind)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["id"]


def framed(number, schema, alert):
    value = io.BytesIO(struct.pack(">bI", 0, number))
    value.seek(5)
    fastavro.schemaless_writer(value, schema, alert)
    return value.getvalue()


def schemas_mixed(gate, folder):
    """LSST 10.0 and 11.0 mixed in one topic partition, in Confluent's framing, are one table."""
    ours = simulate(folder, folder / "made", 40, "--survey", "lsst")
    with open(ours[0], "rb") as f:
        old = json.loads(fastavro.reader(f).metadata["avro.schema"])
    new = v11(old)
    alerts = [alert for path in ours for alert in read(path)]
    written = [filled(alert) if i % 2 else alert for i, alert in enumerate(alerts)]
    registry = os.environ["SCHEMA_REGISTRY_URL"]
    for where in ("folder", "registry"):
        here = folder / where
        (here / "schemas").mkdir(parents=True)
        if where == "folder":
            numbers, location = [10, 11], here / "schemas"
            for number, schema in zip(numbers, (old, new)):
                (here / f"schemas/{number}.avsc").write_text(json.dumps(schema))
        else:
            numbers = [register(registry, f"gate3-{STAMP}-{i}-value", schema) for i, schema in enumerate((old, new))]
            location = registry
        with topics(f"lsst_{where}") as [topic]:
            parsed = [fastavro.parse_schema(schema) for schema in (old, new)]
            send(topic, [framed(numbers[i % 2], parsed[i % 2], alert) for i, alert in enumerate(written)])
            run(here, ROOT / "pipelines/lsst/night.sql", source=f"kafka://{servers()}/{topic}", format="confluent",
                registry=location, science="off")
        rows = archive(here, "lsst/raw")
        found = match(written, plain(rows), key)
        gate.check(f"schemas from a {where}: {len(written)} alerts in one table, every field", found is None, found)
        gate.equal("  from one topic partition", {(row["_topic"], row["_partition"]) for row in rows}, {(topic, 0)})


def same_ids(gate, what, folder, expected):
    got = sorted(row["candid"] for row in archive(folder, "copy"))
    gate.check(f"{what}: {len(expected)} alerts", got == sorted(expected) and expected, f"got {len(got)}")


def made(folder, count=30):
    """Alerts of ZTF as they stand on the wire, and their ids."""
    paths = simulate(folder, folder / "made", count)
    return [path.read_bytes() for path in paths], [alert["candid"] for path in paths for alert in read(path)]


def lists_and_patterns(gate, folder):
    """A list of topics, and a pattern, which takes the topics that it matches and no other."""
    values, ids = made(folder)
    with topics("night_a", "night_b", "day", partitions=2) as names:
        for i, name in enumerate(names):
            send(name, values[i::3])
        cases = [
            ("list", f"kafka://{servers()}/{names[0]},{names[2]}", "", ids[0::3] + ids[2::3]),
            ("pattern", f"kafka://{servers()}", f", 'topic' '^gate3_{STAMP}_night_.*'", ids[0::3] + ids[1::3]),
        ]
        for what, source, options, expected in cases:
            here = folder / what
            here.mkdir()
            run(here, COPY.replace("${options}", options), source=source)
            same_ids(gate, what, here, expected)


def login(gate, folder):
    """A broker that asks for SCRAM-SHA-512; a wrong password is told before anything starts."""
    values, ids = made(folder)
    source = os.environ["KAFKA_SASL_BOOTSTRAP"]
    options = ", 'security.protocol' 'sasl_plaintext', 'sasl.username' 'fink', 'sasl.password.file' 'PASSWORD'"
    (folder / "right").write_text("fink\n")
    (folder / "wrong").write_text("knif\n")
    with topics("login") as [topic]:
        send(topic, values)
        text = COPY.replace("${options}", options)
        run(folder, text.replace("PASSWORD", str(folder / "right")), source=f"kafka://{source}/{topic}")
        same_ids(gate, "SCRAM-SHA-512", folder, ids)
        wrong = text.replace("PASSWORD", str(folder / "wrong")).replace("'ztf'", "'ztf', 'request.timeout' '4s', 'retries' '0'")
        checked = redpoll(folder, "check", file(folder, wrong), *settings({"source": f"kafka://{source}/{topic}"}))
        gate.check("a wrong password", checked.code == 1 and "uthentication" in checked.text, checked.text)


def starts(gate, folder):
    """A source that was never read begins at the earliest record, the latest, or a time."""
    values, ids = made(folder)
    noon = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.timezone.utc)
    with topics("times", partitions=2) as [topic]:
        for hours, part in ((-1, slice(0, 10)), (0, slice(10, 20)), (1, slice(20, 30))):
            time_ms = int((noon + datetime.timedelta(hours=hours)).timestamp() * 1000)
            send(topic, values[part], timestamp=time_ms)
        cases = [("earliest", "earliest", ids), ("time", "2026-01-02T12:00", ids[10:]), ("latest", "latest", [])]
        for what, start, expected in cases:
            here = folder / what
            here.mkdir()
            run(here, COPY.replace("${options}", ""), "--from", start, source=f"kafka://{servers()}/{topic}")
            if expected:
                same_ids(gate, f"--from {start}", here, expected)
            else:
                ledger = sql(here, "SELECT * FROM redpoll.ledger")
                gate.equal(f"--from {start}: epochs", len(ledger), 0)


PROOFS = [schemas_mixed, lists_and_patterns, login, starts]
