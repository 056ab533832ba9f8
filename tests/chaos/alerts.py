"""The alerts of a run, and what must become of each, computed with fastavro and the oracle's rules, without Redpoll."""
import collections
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
import sys

import fastavro
import lib
from confluent_kafka import Producer

sys.path.insert(0, str(lib.REPOSITORY / "tests" / "oracle"))
import oracle  # noqa: E402

N_MADE = 500
RED = 2  # the r band


@dataclasses.dataclass(frozen=True)
class Fact:
    """What the pipeline needs to know of an alert."""
    candid: int
    object_id: str
    fid: int
    verdict: str
    rule: str | None


def fact(value):
    """Of the bytes of a record; None if they are no alert."""
    try:
        [alert] = fastavro.reader(io.BytesIO(value))
    except Exception:
        return None
    verdict, rule = oracle.judge(alert)
    return Fact(alert["candid"], alert["objectId"], alert["candidate"]["fid"], verdict, rule)


def made():
    """{record: fact} of a small mixed night, made once for this build of the simulator."""
    built = pathlib.Path(lib.REDPOLL).stat()
    key = hashlib.sha256(f"{N_MADE} {built.st_size} {built.st_mtime_ns} {pathlib.Path(__file__).read_text()}".encode()).hexdigest()[:12]
    folder = lib.CACHE / f"chaos-{key}"
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}")
        done = lib.redpoll("simulate", "--survey", "ztf", "--count", N_MADE, "--seed", 11, "--mixed", "--to", part)
        if done.returncode != 0:
            raise RuntimeError(f"redpoll simulate: {done.stderr}")
        facts = {path.name: dataclasses.astuple(fact(path.read_bytes())) for path in part.glob("*.avro")}
        (part / "facts.json").write_text(json.dumps(facts))
        try:
            part.rename(folder)
        except OSError:  # another run was first
            shutil.rmtree(part)
    facts = json.loads((folder / "facts.json").read_text())
    return {(folder / name).read_bytes(): Fact(*values) for name, values in sorted(facts.items())}


def broken(dice, value):
    """Bytes that are no alert: a part of one, or noise."""
    return value[: dice.randrange(1, len(value) // 2)] if dice.random() < 0.5 else dice.randbytes(dice.randrange(1, 400))


class Sender:
    """Puts records into the topic that is read, in waves."""

    def __init__(self, servers, topic, partitions, dice, bad_share):
        self.topic, self.partitions, self.dice, self.bad_share = topic, partitions, dice, bad_share
        self.producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 5, "log_level": 4})
        self.records = list(made())
        self.sent = 0

    def mean_bytes(self):
        return sum(map(len, self.records)) // len(self.records)

    def send(self, n):
        for _ in range(n):
            value = self.records[self.sent % len(self.records)]
            if self.dice.random() < self.bad_share:
                value = broken(self.dice, value)
            self.producer.produce(self.topic, value=value, partition=self.dice.randrange(self.partitions))
            self.sent += 1
        if self.producer.flush(60):
            raise lib.TimedOut("the broker does not take the alerts")


class Expected:
    """What every sink must hold, from the records that are in the topic: {sink: multiset}.

    A row of an archive or a topic is (topic partition, offset, candid); of the store its key, which repeats share; of the
    quarantine (topic partition, offset).
    """

    def __init__(self, messages, facts=None):
        facts = facts or {}
        self.alerts, self.bad = {}, set()
        for message in messages:
            place = (message.partition(), message.offset())
            known = facts.get(message.value()) or fact(message.value())
            if known:
                self.alerts[place] = known
            else:
                self.bad.add(place)
        self.n_records = len(self.alerts) + len(self.bad)
        good = {place: known for place, known in self.alerts.items() if known.verdict == "kept"}
        rows = lambda chosen: collections.Counter((*place, known.candid) for place, known in chosen.items())  # noqa: E731
        self.sinks = {
            "chaos.raw": rows(self.alerts),
            "chaos.good": rows(good),
            "every": rows(self.alerts),
            "red": rows({place: known for place, known in good.items() if known.fid == RED}),
            "chaos.objects": collections.Counter({f"{known.object_id}_{known.candid}" for known in good.values()}),
            "quarantine": collections.Counter(self.bad),
        }
        count = lambda verdict: dict(collections.Counter(  # noqa: E731
            known.rule for known in self.alerts.values() if known.verdict == verdict))
        self.kept, self.cut, self.unknown = len(good), count("cut"), count("unknown")
