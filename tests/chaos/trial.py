"""A job on real processes that is to be struck: its topics, its cluster, and how far it has come."""
import pathlib
import uuid

import alerts
import lib
import readers

HERE = pathlib.Path(__file__).resolve().parent
# Far above what a healthy run takes: other work may share the machine.
PATIENCE = 180


class Store:
    """A `redpoll store` beside the schedulers, so that these can be replaced."""

    def __init__(self, folder):
        self.port = lib.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process = lib.Process("store", [lib.REDPOLL, "store", "--folder", folder / "store", "--bind", self.address], folder)


class Trial:
    """`options` and `env` are those of all roles."""

    def __init__(self, folder, name, servers, dice, *, on_s3, partitions, delivery="exactly-once", bad_share=0.0):
        self.folder, self.name, self.servers = folder, name, servers
        self.warehouse = readers.Warehouse(folder, on_s3, name)
        self.topic = f"{name}-{uuid.uuid4().hex[:8]}"
        self.delivery, self.partitions = delivery, partitions
        self.admin = readers.create_topics(servers, self.topics, partitions)
        self.sender = alerts.Sender(servers, self.topic, partitions, dice, bad_share)
        self.clusters = []
        # Whether the job was seen in its log.
        self.begun = False

    @property
    def topics(self):
        return [self.topic, f"{self.topic}_every", f"{self.topic}_red"]

    @property
    def cluster(self):
        """The one whose scheduler reigns."""
        return self.clusters[-1]

    def add_cluster(self, vcores, options, scheduler_options, env, n_executors=2):
        folder = self.folder / f"cluster-{len(self.clusters) + 1}"
        self.clusters.append(lib.Cluster(
            folder, n_executors=n_executors, vcores=vcores, options=options, warehouse=self.warehouse.url,
            scheduler_options=scheduler_options, env={"REDPOLL_LOG": "json", **env}))
        return self.cluster

    def submit(self, split_bytes):
        """Starts the client that asks for the job. It may wait for a scheduler that stands still: nobody waits for it."""
        self.client = lib.Process(
            "run", [lib.REDPOLL, "run", HERE / "chaos.sql", "--name", self.name, "--scheduler", self.cluster.url,
                    "--set", f"source=kafka://{self.servers}/{self.topic}", "--set", f"delivery={self.delivery}",
                    "--archive-interval", "200ms", "--split-size", split_bytes, "--lanes", 8], self.folder)

    def refused(self):
        """What the client said if the job was refused; a client whose scheduler died has failed too, but its job goes on."""
        failed = not self.client.running() and self.client.child.returncode != 0
        if failed and not self.begun:
            self.begun = bool(self.warehouse.of("term"))
        return self.client.tail() if failed and not self.begun else None

    def status(self):
        # Not for long: a scheduler that stands still does not answer.
        status = lib.get(f"{self.cluster.url}/v1/jobs/{self.name}", timeout=1) or {}
        if status.get("state") == "failed":
            raise RuntimeError(f"the job failed: {status.get('reason')}")
        return status

    def all_committed(self):
        if refused := self.refused():
            raise RuntimeError(f"redpoll run:\n{refused}")
        return self.status().get("fetched", 0) >= self.sender.sent

    def wait_committed(self):
        try:
            lib.wait_for(f"commit of {self.sender.sent} records", self.all_committed, PATIENCE)
        except lib.TimedOut as error:
            raise lib.TimedOut(f"{error}; the job says {self.status()}") from None

    def stop(self):
        done = lib.redpoll("stop", self.name, "--scheduler", self.cluster.url, timeout=PATIENCE)
        if done.returncode != 0:
            raise RuntimeError(f"redpoll stop: {done.stderr}")
        lib.wait_for("end of the job", lambda: self.warehouse.of("stopped"), PATIENCE)

    def expected(self, facts=None):
        return alerts.Expected(readers.committed(self.servers, self.topic), facts)

    def close(self, keep=False):
        """Ends all processes; topics and warehouse go, unless somebody has to look at them."""
        lib.end_all()
        if keep:
            print(f"topics {', '.join(self.topics)} and warehouse {self.warehouse.url} stay", flush=True)
            return
        for future in self.admin.delete_topics(self.topics).values():
            future.exception(60)
        self.warehouse.remove()
