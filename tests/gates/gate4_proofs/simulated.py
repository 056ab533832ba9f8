"""`redpoll simulate`: its pace, where alerts go, how they are wrapped, that a seed is a promise, and replays."""

import io
import json
import os

import fastavro
import pyarrow.parquet
from confluent_kafka.admin import AdminClient

import lib
import topic
from alerts import contained, members, of_folder
from compare import difference, match
from shell import typed

# How far an alert may be from its time on a machine that has other work, in seconds. Early, because the first one, by which
# the others are judged, may have been late.
EARLY, LATE = 0.3, 1.0


def simulate(arguments, folder, **more):
    done = typed(f"redpoll simulate {arguments} --format json", folder, **more)
    if done.code:
        raise RuntimeError(f"{done.line}: {done.said}")
    return json.loads(done.out)


def files(folder):
    return sorted(folder.iterdir())


def records(servers, name):
    """The records of a topic in the order in which the simulator deals them: to its partitions in turn."""
    n = len(topic.offsets(servers, name))
    return sorted(topic.records(servers, name), key=lambda record: record.offset() * n + record.partition())


class Topics:
    """Topics of our own, gone at the end."""

    def __init__(self, servers):
        self.servers, self.names = servers, []

    def new(self, name):
        self.names.append(f"gate4_{os.getpid()}_{name}")
        return self.names[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 4})
        there = set(admin.list_topics(timeout=30).topics)
        gone = [name for name in self.names if name in there]
        for future in (admin.delete_topics(gone) if gone else {}).values():
            future.exception(30)


def check_pace(report, what, times, due):
    """Times in seconds against when each alert is due after the first."""
    off = [time - times[0] - wanted for time, wanted in zip(times, due)]
    report.check(
        f"{what}: {len(due)} alerts in {due[-1]:.1f} s",
        len(times) == len(due) and -EARLY < min(off) <= max(off) < LATE,
        f"from {min(off):+.2f} to {max(off):+.2f} s beside their time, the last after {times[-1] - times[0]:.2f} s",
    )


def pace(report, folder, servers, topics):
    steady = [n / 40 for n in range(160)]
    simulate("--rate 40 --count 160 --to steady", folder)
    check_pace(report, "--rate 40, by the times of the files", [path.stat().st_mtime for path in files(folder / "steady")], steady)
    # A visit of 10,000 alerts each 39 s, at a hundredth of its size and at a tenth of its time.
    visits = [n // 100 * 3.9 for n in range(250)]
    simulate("--rate 100/3900ms --count 250 --to visits", folder)
    check_pace(
        report, "--rate 100/3900ms, by the times of the files", [path.stat().st_mtime for path in files(folder / "visits")], visits
    )
    if servers:
        paced = topics.new("pace")
        simulate(f"--rate 100/2s --count 250 --partitions 3 --to kafka://{servers}/{paced}", folder)
        times = [message.timestamp()[1] / 1000 for message in records(servers, paced)]
        check_pace(report, "--rate 100/2s, by the records' timestamps", times, [n // 100 * 2 for n in range(250)])


def places(report, folder, servers, topics):
    """One run to all three kinds of place."""
    placed = topics.new("places") if servers else None
    kafka = f"--to kafka://{servers}/{placed} --partitions 3" if servers else ""
    summary = simulate(f"--count 90 --mixed --to all --to all.tar.gz --to all.tar {kafka}", folder)
    written = [path.read_bytes() for path in files(folder / "all")]
    report.equal("files of the folder", (len(written), sum(map(len, written))), (summary["alerts"], summary["bytes"]))
    for name in ("all.tar.gz", "all.tar"):
        report.check(
            f"{name} holds the same bytes", [data for _, data in members(folder / name)] == written, f"{len(written)} alerts"
        )
    if servers:
        sent = records(servers, placed)
        report.check("the topic holds the same bytes", [message.value() for message in sent] == written, f"{len(sent)} alerts")
        report.equal("in partitions", {message.partition() for message in sent}, {0, 1, 2})


def framings(report, folder, servers, topics):
    """The same alert in each."""
    for survey in ("ztf", "lsst"):
        simulate(f"--survey {survey} --count 6 --to {survey}-ocf", folder)
        alerts = of_folder(folder / f"{survey}-ocf")
        with open(files(folder / f"{survey}-ocf")[0], "rb") as file:
            schema = fastavro.parse_schema(json.loads(fastavro.reader(file).metadata["avro.schema"]))
        datum = lambda data: fastavro.schemaless_reader(io.BytesIO(data), schema)
        for framing, head in (("confluent:7", b"\0\0\0\0\7"), ("schemaless", b""), ("fink", b"")):
            simulate(f"--survey {survey} --count 6 --framing {framing} --to {survey}-{framing[:5]}", folder)
            written = [path.read_bytes() for path in files(folder / f"{survey}-{framing[:5]}")]
            same = [data[: len(head)] == head and datum(data[len(head) :]) == alert for data, alert in zip(written, alerts)]
            report.check(f"{survey}, --framing {framing}: the alerts of --framing ocf", same == [True] * 6)
    if servers:
        framed = topics.new("fink")
        simulate(f"--survey lsst --count 6 --framing fink --to kafka://{servers}/{framed}", folder)
        back = [
            fastavro.schemaless_reader(io.BytesIO(m.value()), fastavro.parse_schema(json.loads(m.key())))
            for m in records(servers, framed)
        ]
        report.check("--framing fink: the key of each record is the schema that reads it", back == alerts)


def seeds(report, folder):
    bytes_of = lambda name: [path.read_bytes() for path in files(folder / name)]
    for survey in ("ztf", "lsst"):
        for name, seed in (("one", 5), ("again", 5), ("other", 6)):
            simulate(f"--survey {survey} --mixed --count 40 --seed {seed} --to {survey}-{name}", folder)
        report.check(
            f"{survey}: a seed gives the same bytes twice",
            bytes_of(f"{survey}-one") == bytes_of(f"{survey}-again"),
            f"{sum(map(len, bytes_of(f'{survey}-one')))} bytes",
        )
        shared = set(bytes_of(f"{survey}-one")) & set(bytes_of(f"{survey}-other"))
        report.equal(f"{survey}: alerts that another seed makes too", len(shared), 0)


def key(alert):
    return alert.get("candid") or alert.get("diaSourceId")


def replays(report, folder):
    """What is replayed with its ids comes back value for value; without, all but the ids does."""
    simulate("--count 30 --to made --to made.tar.gz", folder)
    made = of_folder(folder / "made")
    for source in ("made", "made.tar.gz", f"made/{files(folder / 'made')[0].name}"):
        n = 1 if source.endswith(".avro") else 30
        name = source.replace("/", "-").replace(".", "-")
        simulate(f"--from {source} --keep-ids --count {n} --to replayed-{name}", folder)
        found = match(made[:n], of_folder(folder / f"replayed-{name}"), key)
        report.check(f"--from {source} --keep-ids: {n} alerts, every field", found is None, found or "")
    simulate("--from made --count 45 --to cycled", folder)
    cycled = of_folder(folder / "cycled")
    same = [
        difference(
            "",
            {**a, "candid": 0, "candidate": {**a["candidate"], "candid": 0}},
            {**b, "candid": 0, "candidate": {**b["candidate"], "candid": 0}},
        )
        for a, b in zip(cycled, made + made[:15])
    ]
    report.check(
        "--from made --count 45: after the last the first again, with ids of their own",
        not any(same) and len({a["candid"] for a in cycled}) == 45,
        next(filter(None, same), ""),
    )


def archives(report, folder):
    """Parquet: the archive of our own night of each survey, and those of a broker where they are."""
    for survey in ("ztf", "lsst"):
        simulate(f"--survey {survey} --mixed --count 40 --to {survey}-night", folder)
        made = of_folder(folder / f"{survey}-night")
        ran = typed(
            f"redpoll run {lib.REPOSITORY}/pipelines/{survey}/night.sql --set source={survey}-night --set science=off --available-now "
            f"--warehouse {survey}-warehouse",
            folder,
        )
        report.check(f"{survey}: a night to replay", ran.code == 0, ran.said if ran.code else f"{len(made)} alerts")
        simulate(f"--from {survey}-warehouse/{survey}/raw --keep-ids --count 40 --to {survey}-replayed", folder)
        found = match(made, of_folder(folder / f"{survey}-replayed"), key)
        report.check(f"--from the Parquet of {survey}.raw: {len(made)} alerts, every field", found is None, found or "")
    for survey, name in (("ztf", "raw_51"), ("lsst", "raw_v10_0_25")):
        path = lib.SAMPLES / survey / f"{name}.parquet"
        if not path.exists():
            report.skip(f"replay of real Parquet of {survey}", f"{path} is not there")
            continue
        rows = pyarrow.parquet.read_table(path).to_pylist()
        simulate(f"--from {path} --keep-ids --count {len(rows)} --to {name}", folder)
        wrong = [found for row, alert in zip(rows, of_folder(folder / name)) if (found := archived(key(alert), row, alert))]
        n = len(files(folder / name))
        report.check(
            f"--from {name}.parquet: {n} alerts, every field that its schema has",
            n == len(rows) and not wrong,
            "; ".join(wrong[:3]),
        )


def archived(path, row, alert):
    """Where an alert differs from the row of an archive that widens floats and integers and has fields of its own, or None."""
    if isinstance(alert, dict):
        fields = {name: (row or {}).get(name) for name in alert}
        return next(filter(None, (archived(f"{path}.{name}", fields[name], alert[name]) for name in alert)), None)
    if isinstance(alert, list):
        if len(row or []) != len(alert):
            return f"{path}: {len(row or [])} against {len(alert)}"
        return next(filter(None, (archived(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(row, alert)))), None)
    if isinstance(alert, float) and row is not None:
        # A float of the schema is what the wider number of the archive rounds to.
        near = abs(alert - row) <= 1e-6 * abs(row) if row == row else alert != alert
        return None if near else f"{path}: {alert} against {row}"
    if hasattr(alert, "timestamp") and hasattr(row, "timestamp"):
        return None if alert.timestamp() == row.timestamp() else f"{path}: {alert} against {row}"
    return None if alert == row else f"{path}: {alert!r} against {row!r}"


def published(report):
    """Names and types of made alerts are those of the surveys' own schemas."""
    for survey, sample, exactly in (("lsst", "fakeAlert_v10_0.avro", True), ("ztf", "template_schema_ZTF_3p3.avro", False)):
        path = lib.SAMPLES / survey / sample
        if not path.exists():
            report.skip(f"published schema of {survey}", f"{path} is not there")
            continue
        with open(path, "rb") as file:
            theirs = dict(fields(json.loads(fastavro.reader(file).metadata["avro.schema"])))
        [ours] = [
            dict(fields(json.loads(path.read_text()))) for path in (lib.REPOSITORY / "simulator/schemas").glob(f"{survey}*.avsc")
        ]
        wrong = {name: (kind, ours.get(name)) for name, kind in theirs.items() if ours.get(name) != kind}
        more = sorted(ours.keys() - theirs.keys())
        report.check(
            f"{survey}: made alerts have every field and type of {sample}",
            not wrong and not (exactly and more),
            wrong or f"{len(theirs)} fields, and {len(more)} later ones",
        )


def fields(node, path="", known=None):
    """(path, type) of each field of a schema, through unions, lists and names of records."""
    known = {} if known is None else known
    if isinstance(node, list):
        for branch in node:
            yield from fields(branch, path, known)
    elif isinstance(node, dict) and node["type"] == "record":
        known[node["name"].split(".")[-1]] = node
        for field in node["fields"]:
            inner = f"{path}.{field['name']}"
            yield inner, kinds(field["type"])
            yield from fields(field["type"], inner, known)
    elif isinstance(node, dict) and node["type"] == "array":
        yield from fields(node["items"], f"{path}[]", known)
    elif isinstance(node, dict):
        yield from fields(node["type"], path, known)
    elif isinstance(node, str) and node.split(".")[-1] in known:
        yield from fields(known[node.split(".")[-1]], path, known)


def kinds(node):
    """The types that a field may have, without names and order."""
    if isinstance(node, list):
        return frozenset().union(*map(kinds, node))
    if isinstance(node, dict):
        return (
            frozenset([node.get("logicalType") or ("record" if node["type"] == "record" else node["type"])])
            if isinstance(node["type"], str)
            else kinds(node["type"])
        )
    primitive = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
    return frozenset([node if node in primitive else "record"])


def simulated(report):
    servers = lib.kafka(report)
    folder = lib.scratch("gate4-simulate")
    with Topics(servers) as topics:
        for proof in (pace, places, framings):
            proof(report, folder, servers, topics)
    seeds(report, folder)
    replays(report, folder)
    archives(report, folder)
    published(report)
