"""Topics in every framing: what other clients read, and what a pipeline reads back."""

import io
import json
import os
import urllib.request

import deltalake
import fastavro
from pyarrow import fs

from brokers import send, servers, topics
from folders import simulate
from gate import ROOT, archive, match, redpoll, run
from topic import records
from values import key, plain, read

WRITE = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ztf');
CREATE EXTERNAL TABLE out STORED AS TOPIC LOCATION '${topic}' OPTIONS (${options});
INSERT INTO out SELECT * FROM alerts;
"""
READ = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS (${options});
CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
INSERT INTO copy SELECT * FROM alerts;
"""


def schemas():
    """Writer schemas of the registry, by number."""

    def get(number):
        with urllib.request.urlopen(f"{os.environ['SCHEMA_REGISTRY_URL']}/schemas/ids/{number}", timeout=30) as answer:
            return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))

    known = {}
    return lambda number: known.get(number) or known.setdefault(number, get(number))


def decode(framing, message, schema_of):
    value = message.value()
    if framing == "ocf":
        return next(fastavro.reader(io.BytesIO(value)))
    if framing == "fink":
        return fastavro.schemaless_reader(io.BytesIO(value), fastavro.parse_schema(json.loads(message.key())))
    assert value[0] == 0
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema_of(int.from_bytes(value[1:5], "big")))


def framings(gate, folder):
    """Topics as fink, confluent and ocf: values, keys, partitions and headers; then read back by a pipeline."""
    source = folder / "made"
    alerts = [alert for path in simulate(folder, source, 40) for alert in read(path)]
    registry = os.environ["SCHEMA_REGISTRY_URL"]
    keyed = ", 'key' 'objectId'"
    placed = ", 'partition' 'candidate[''fid''] % 4'"
    cases = {
        "fink": ("'format' 'fink'" + placed, "'format' 'fink'"),
        "confluent": (f"'format' 'confluent', 'registry' '{registry}'{keyed}", f"'format' 'confluent', 'registry' '{registry}'"),
        "ocf": (f"'format' 'ocf'{keyed}{placed}", "'format' 'ocf'"),
    }
    for framing, (write, back) in cases.items():
        here = folder / framing
        here.mkdir()
        with topics(f"out_{framing}", partitions=4) as [topic]:
            run(here, WRITE.replace("${options}", write), source=source, topic=f"kafka://{servers()}/{topic}")
            got, schema_of = records(servers(), topic), schemas()
            found = match(alerts, [decode(framing, message, schema_of) for message in got], key)
            gate.check(f"{framing}: {len(alerts)} alerts as fastavro reads them", found is None, found)
            by_id = {alert["candid"]: alert for alert in alerts}
            pairs = [(message, by_id[decode(framing, message, schema_of)["candid"]]) for message in got]
            if keyed in write:
                right = all(message.key().decode() == alert["objectId"] for message, alert in pairs)
                gate.check("  keys are objectId", right)
            if placed in write:
                right = all(message.partition() == alert["candidate"]["fid"] % 4 for message, alert in pairs)
                gate.check("  partitions are fid % 4", right)
            elif keyed in write:
                homes = {}
                for message, alert in pairs:
                    homes.setdefault(alert["objectId"], set()).add(message.partition())
                gate.check("  one partition for each key", all(len(home) == 1 for home in homes.values()))
                gate.check("  and several are in use", len(set().union(*homes.values())) > 1)
            headers = [dict(message.headers() or []) for message in got]
            gate.check("  headers redpoll-source, redpoll-job, redpoll-epoch",
                       all({"redpoll-source", "redpoll-job", "redpoll-epoch"} <= set(h) for h in headers), headers[:1])
            gate.equal("  each source once", len({h.get("redpoll-source") for h in headers}), len(alerts))
            run(here, READ.replace("${options}", back), "--name", "back", source=f"kafka://{servers()}/{topic}")
            found = match(alerts, plain(archive(here, "copy")), key)
            gate.check("  and a pipeline reads them back", found is None, found)


def schemaless(gate, folder):
    """Alerts without header or key, with the schema in a file."""
    paths = simulate(folder, folder / "made", 20)
    with open(paths[0], "rb") as f:
        schema = json.loads(fastavro.reader(f).metadata["avro.schema"])
    (folder / "alert.avsc").write_text(json.dumps(schema))
    alerts, parsed = [alert for path in paths for alert in read(path)], fastavro.parse_schema(schema)
    values = []
    for alert in alerts:
        value = io.BytesIO()
        fastavro.schemaless_writer(value, parsed, alert)
        values.append(value.getvalue())
    with topics("schemaless") as [topic]:
        send(topic, values)
        text = READ.replace("${options}", "'format' 'avro', 'schema' 'alert.avsc'")
        run(folder, text, source=f"kafka://{servers()}/{topic}")
    found = match(alerts, plain(archive(folder, "copy")), key)
    gate.check(f"avro: {len(alerts)} alerts, every field", found is None, found)


def object_store(gate, folder):
    """A night whose alerts, archive and job log are on S3."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    s3 = fs.S3FileSystem(access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
                         endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True)
    root = f"gate3/{folder.name}"
    s3.create_dir("gate3")
    paths = simulate(folder, folder / "made", 30)
    for path in paths:
        with s3.open_output_stream(f"{root}/night/{path.name}") as out:
            out.write(path.read_bytes())
    run(folder, ROOT / "pipelines/ztf/night.sql", "--warehouse", f"s3://{root}/warehouse", source=f"s3://{root}/night",
        science="off", topics=f"s3://{root}/topics")
    options = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    rows = deltalake.DeltaTable(f"s3://{root}/warehouse/ztf/raw", storage_options=options).to_pyarrow_table().to_pylist()
    found = match([alert for path in paths for alert in read(path)], plain(rows), key)
    gate.check(f"{len(paths)} alerts from s3:// to s3://, every field", found is None, found)
    listed = s3.get_file_info(fs.FileSelector(f"{root}/topics", recursive=True))
    gate.check("topics there too", any(info.path.endswith(".avro") for info in listed), listed)
    asked = redpoll(folder, "sql", "SELECT count(*) AS n FROM ztf.raw", "--format", "json", "--warehouse", f"s3://{root}/warehouse")
    gate.check("redpoll sql over it", json.loads(asked.out or "[{}]")[0].get("n") == len(paths), asked.text)
    s3.delete_dir(root)


PROOFS = [framings, schemaless, object_store]
