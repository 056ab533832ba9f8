"""What the proofs share: a broker behind a proxy, jobs of one source and one archive, and what became of them."""
import collections
import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import time

import lib

sys.path.insert(0, str(lib.REPOSITORY / "tests/services"))
import deltalake
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from fault_proxy import FaultProxy

PIPELINE = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${{source}}' OPTIONS ('format' 'ztf', 'schema' '{schema}'{options});
CREATE EXTERNAL TABLE {table} STORED AS DELTA LOCATION '{table}';
INSERT INTO {table} SELECT {columns} FROM alerts;
"""
# Short bounds, so that a proof sees a failure within seconds.
SHORT = ", 'request.timeout' '1s', 'retries' '1', 'stall.timeout' '3s'"


def alerts(count, folder):
    """Files with one alert of ZTF each."""
    done = lib.redpoll("simulate", "--count", count, "--to", folder)
    if done.returncode != 0:
        raise RuntimeError(f"redpoll simulate: {done.stderr}")
    return sorted(pathlib.Path(folder).rglob("*.avro"))


def free_port():
    """One from which no connection starts: whoever tries to reach a dead broker would now and then take its port."""
    while True:
        port = random.randrange(21_000, 28_000)
        with socket.socket() as listener:
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return port


class Broker:
    """A Kafka of the gate's own. Clients are sent to a proxy before it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / "kafka"
        port, login, controller = (free_port() for _ in range(3))
        self.proxy = FaultProxy(f"127.0.0.1:{port}", tcp=True)
        self.servers = self.proxy.listen
        self.env = {**os.environ, "REDPOLL_RUN_DIR": str(self.folder), "KAFKA_PORT": str(port), "KAFKA_SASL_PORT": str(login),
                    "KAFKA_CONTROLLER_PORT": str(controller), "KAFKA_ADVERTISED": self.servers,
                    # A broker that was killed may come back once its own controller has given it up.
                    "KAFKA_SETTINGS": "broker.session.timeout.ms=3000 broker.heartbeat.interval.ms=500"}
        self.start()
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def run(self, command):
        done = subprocess.run([lib.REPOSITORY / "tests/services/kafka.sh", command], env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"kafka.sh {command}: {done.stderr.strip()[-500:]}")

    def start(self):
        self.run("start")

    def kill(self):
        told = self.folder / "kafka/broker.pid"
        pid = int(told.read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        # Its threads may outlive the process for a moment, and hold its ports.
        ports = [int(self.env[name]) for name in ("KAFKA_PORT", "KAFKA_SASL_PORT", "KAFKA_CONTROLLER_PORT")]
        lib.wait_for("end of the broker", lambda: not any(is_open(port) for port in ports), 10)
        told.unlink()

    def close(self):
        self.run("stop")
        self.proxy.close()

    def create(self, topic, partitions=1):
        self.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
        return topic

    def delete(self, topic):
        self.admin.delete_topics([topic])[topic].result(30)
        lib.wait_for(f"end of topic {topic}", lambda: topic not in self.admin.list_topics(timeout=10).topics, 20)

    def send(self, topic, values, partition=0):
        producer = Producer({"bootstrap.servers": self.servers, "enable.idempotence": True, "log_level": 0})
        for value in values:
            producer.produce(topic, value=value, partition=partition)
        assert producer.flush(60) == 0


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Stream:
    """A job that reads one source into one archive table."""

    def __init__(self, cluster, name, source, options=SHORT, columns="objectId, candid"):
        self.cluster, self.name, self.source = cluster, name, source
        schema = lib.REPOSITORY / "pipelines/ztf/schemas/alert.avsc"
        self.file = cluster.folder / f"{name}.sql"
        self.file.write_text(PIPELINE.format(schema=schema, options=options, table=name, columns=columns))

    def run(self, *options):
        done = lib.redpoll("run", self.file, "--name", self.name, "--set", f"source={self.source}", "--scheduler", self.cluster.url,
                           "--archive-interval", "200ms", "--max-tries", 2, "--max-pause", "1s", *options)
        if done.returncode != 0:
            raise RuntimeError(f"redpoll run: {done.stderr}")
        return self

    def status(self):
        return lib.get(f"{self.cluster.url}/v1/jobs/{self.name}", timeout=10) or {}

    def wait(self, n, seconds=45):
        """Until `n` alerts are committed."""
        lib.wait_for(f"{n} alerts of {self.name}: {self.status()}", lambda: self.status().get("decoded", 0) >= n, seconds)

    def wait_trouble(self, step, seconds=30, degraded=True):
        """The status once this step is said to fail, and the job to be degraded for it."""
        def failing():
            status = self.status()
            fits = (status.get("trouble") or {}).get("step") in step.split("|")
            return status if fits and (not degraded or status["state"] == "degraded") else None
        return lib.wait_for(f"trouble '{step}' of {self.name}", failing, seconds)

    def describe(self):
        done = lib.redpoll("describe", self.name, "--scheduler", self.cluster.url)
        return done.stdout + done.stderr

    def ledger(self):
        return lib.redpoll_json("ledger", "--job", self.name, "--scheduler", self.cluster.url)

    def stop(self):
        lib.redpoll("stop", self.name, "--scheduler", self.cluster.url)
        lib.wait_for(f"end of {self.name}", lambda: self.status().get("state") in ("stopped", "failed"), 30)

    def positions(self, options=None):
        """How often each position is in the archive."""
        table = deltalake.DeltaTable(f"{self.cluster.warehouse}/{self.name}", storage_options=options)
        rows = table.to_pyarrow_table(columns=["_topic", "_partition", "_offset"]).to_pylist()
        return collections.Counter((row["_topic"], row["_partition"], row["_offset"]) for row in rows)

    def files(self, options=None):
        """How often the alert of each file is in the archive."""
        return collections.Counter(name for name, _, _ in self.positions(options).elements())


def says(report, stream, status, what, *words):
    """`describe` names the step, the time, the tries, and what to do; and these words."""
    trouble, text = status["trouble"], stream.describe()
    told = all(re.search(rf"^  {name} +\S", text, re.M) for name in ("failing", "since", "remedy"))
    report.check(f"{what}: describe says so", told and all(word in text for word in words),
                 f"{trouble['step']}, {trouble['tries']} tries, {lib.short(trouble['reason'], 110)}; {lib.short(trouble['remedy'], 60)}"
                 if told else text)


def exact(report, what, found, wanted):
    """Each wanted position once and no other."""
    doubled = [at for at, n in found.items() if n > 1]
    missing, more = set(wanted) - set(found), set(found) - set(wanted)
    report.check(f"{what}: each of {len(set(wanted))} positions once", not (doubled or missing or more),
                 f"doubled {lib.short(doubled)}, missing {lib.short(sorted(missing))}, unexpected {lib.short(sorted(more))}"
                 if doubled or missing or more else "")


def well(report, stream, seconds=20):
    """The trouble is over and says so."""
    over = lib.wait_for(f"good health of {stream.name}", lambda: stream.status().get("trouble") is None and stream.status(), seconds)
    report.check("then it runs on and says nothing of it any more", over["state"] == "running", over["state"])
