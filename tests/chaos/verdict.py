"""What is left after a run, counted by other programs than Redpoll, against what is expected."""
import collections
import dataclasses
import io
import json

import fastavro
import lib
import readers
import xxhash

TABLES = ["chaos.raw", "chaos.good"]
TOPICS = ["every", "red"]


@dataclasses.dataclass
class Counted:
    """`lost` and `doubled` are sums over all sinks; rows that should not be there at all count as doubled."""
    lost: int = 0
    doubled: int = 0
    # Sums of the ledger that do not hold.
    unbalanced: list = dataclasses.field(default_factory=list)
    # "clean", "skipped", or what the audit said.
    audit: str = "skipped"
    notes: list = dataclasses.field(default_factory=list)

    def compare(self, sink, wanted, found):
        missing, surplus = wanted - found, found - wanted
        self.lost += missing.total()
        self.doubled += surplus.total()
        if missing or surplus:
            self.notes.append(f"{sink}: {missing.total()} lost {sorted(missing)[:5]}, {surplus.total()} doubled {sorted(surplus)[:5]}")


def count(trial, expected):
    """Everything that the issue's promise rests on, of a job that has ended."""
    counted = Counted()
    for table in TABLES:
        rows = trial.warehouse.rows(table.replace(".", "/"), "_partition", "_offset", "candid")
        counted.compare(table, expected.sinks[table], collections.Counter(rows))
        epochs = trial.warehouse.transactions(table.replace(".", "/"))
        if epochs != sorted(set(epochs)):
            counted.notes.append(f"{table}: epochs of its commits: {epochs}")
            counted.doubled += 1
    for topic in TOPICS:
        counted.compare(topic, expected.sinks[topic], in_topic(trial, topic))
    keys = lib.redpoll_json("sql", "SELECT _row_key FROM chaos.objects", "--scheduler", trial.cluster.url)
    counted.compare("chaos.objects", expected.sinks["chaos.objects"], collections.Counter(row["_row_key"] for row in keys))
    aside = lib.redpoll_json("quarantine", "list", "--job", trial.name, "--warehouse", trial.warehouse.url)
    counted.compare("quarantine", expected.sinks["quarantine"], collections.Counter((row["partition"], row["offset"]) for row in aside))
    counted.unbalanced = ledger(trial, expected)
    counted.audit = audit(trial, expected)
    return counted


def in_topic(trial, topic):
    """Rows of a sink topic. Where it is at-least-once, records with equal headers are one, as its readers are told."""
    found, seen, schemas = collections.Counter(), set(), {}
    for message in readers.committed(trial.servers, f"{trial.topic}_{topic}"):
        headers = dict(message.headers())
        if trial.delivery == "at-least-once":
            if tuple(sorted(headers.items())) in seen:
                continue
            seen.add(tuple(sorted(headers.items())))
        if message.key() not in schemas:
            schemas[message.key()] = fastavro.parse_schema(json.loads(message.key()))
        alert = fastavro.schemaless_reader(io.BytesIO(message.value()), schemas[message.key()], None)
        source, partition, offset = headers["redpoll-source"].decode().rsplit(":", 2)
        if source != trial.topic:
            raise RuntimeError(f"{topic}: a record of {source}")
        found[(int(partition), int(offset), alert["candid"])] += 1
    return found


def digest(topic, places):
    """Of the alerts at these positions, from the definition: a sum of 128-bit hashes."""
    hashed = (topic.encode() + partition.to_bytes(4, "little") + offset.to_bytes(8, "little") + bytes(4)
              for partition, offset, *_ in places)
    return f"{sum(map(xxhash.xxh3_128_intdigest, hashed)) % 2**128:032x}"


def ledger(trial, expected):
    """The sums of the ledger's lines against counts of our own; those that differ, in words."""
    lines = lib.redpoll_json("ledger", "--job", trial.name, "--warehouse", trial.warehouse.url)
    total = lambda name: sum(line[name] for line in lines)  # noqa: E731
    merged = lambda name: dict(sum((collections.Counter(line[name]) for line in lines), collections.Counter()))  # noqa: E731
    digests = collections.Counter()
    for line in lines:
        digests.update({sink: int(value, 16) for sink, value in line["digests"].items()})
    positions = {"chaos.raw": "chaos.raw", "every": "chaos.raw", "chaos.good": "chaos.good", "chaos.objects": "chaos.good", "red": "red"}
    sums = {
        "epochs": ([line["epoch"] for line in lines], list(range(len(lines)))),
        "fetched": (total("fetched"), expected.n_records),
        "absent": (total("absent"), 0),
        "decoded": (total("decoded"), len(expected.alerts)),
        "quarantined": (total("quarantined"), len(expected.bad)),
        "kept": (total("kept"), expected.kept),
        "cut": (merged("cut"), expected.cut),
        "unknown": (merged("unknown"), expected.unknown),
        "offsets": (offsets(lines), {}),
        "rows": (merged("sinks"), {sink: n for sink in positions if (n := expected.sinks[positions[sink]].total())}),
        "digests": ({sink: f"{value % 2**128:032x}" for sink, value in digests.items() if value},
                    {sink: digest(trial.topic, expected.sinks[of]) for sink, of in positions.items() if expected.sinks[of]}),
    }
    return [f"{name}: {lib.short(found)}, wanted {lib.short(wanted)}" for name, (found, wanted) in sums.items() if found != wanted]


def offsets(lines):
    """Topic partitions whose ranges, epoch after epoch, leave a hole or overlap: {partition: (end, next start)}."""
    ends, broken = {}, {}
    for line in lines:
        for source in line["source"]:
            end = ends.get(source["partition"], 0)
            if end != source["start"]:
                broken[source["partition"]] = (end, source["start"])
            ends[source["partition"]] = source["end"]
    return broken


def audit(trial, expected):
    """What `redpoll ledger audit` finds, which computes every epoch and reads every sink once more by itself."""
    if lib.redpoll("ledger", "audit", "--help").returncode != 0:
        return "skipped"
    done = lib.redpoll("ledger", "audit", "--job", trial.name, "--scheduler", trial.cluster.url, "--format", "json")
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return f"ended with {done.returncode}: {done.stderr.strip()[-1000:]}"
    if done.returncode or report["found"]:
        return f"found {report['found']}: {[finding['text'] for finding in report['findings'][:5]]}"
    seen = (report["again"], report["positions"], report["alerts"])
    wanted = (report["epochs"], expected.n_records, len(expected.alerts))
    return "clean" if seen == wanted else f"epochs, positions, alerts: {seen}, wanted {wanted}; {report['notes']}"
