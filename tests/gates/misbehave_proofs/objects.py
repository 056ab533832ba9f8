"""S3 that errs, is slow, cuts connections and loses answers, for everything that a job asks of it."""
import os
import shutil
import subprocess
import uuid

import lib
import world

LOG, DATA = "_redpoll/jobs/.*/log/", r"/part-.*\.parquet"
# Each is done to requests of a running job; what a job needs of S3, it does again.
FAULTS = [
    ("puts of the log whose answers are lost", {"method": "PUT", "path": LOG, "action": "reset-after", "times": 3}),
    ("puts of the log that are done and answered with 500", {"method": "PUT", "path": LOG, "action": "status-after", "status": 500, "times": 3}),
    ("puts of the log refused with 503", {"method": "PUT", "path": LOG, "action": "status", "times": 3}),
    ("Delta commits whose answers are lost", {"method": "PUT", "path": "_delta_log/.*json", "action": "reset-after", "times": 2}),
    ("receipts whose answers are lost", {"method": "PUT", "path": "/receipts/", "action": "reset-after", "times": 2}),
    ("receipts that are torn", {"method": "PUT", "path": "/receipts/", "action": "cut-request", "times": 2}),
    ("reads refused with 503", {"method": "GET", "path": "_redpoll|_delta_log", "action": "status", "times": 5}),
    ("reads that break off", {"method": "GET", "path": "/receipts/", "action": "cut-answer", "times": 2}),
    ("lists refused with 500", {"method": "GET", "path": "list-type=2", "action": "status", "status": 500, "times": 5}),
    ("lists that break off", {"method": "GET", "path": "list-type=2", "action": "cut-answer", "times": 2}),
    ("data files that are torn", {"method": "PUT", "path": DATA, "action": "cut-request", "times": 2}),
    ("answers that come after the client has given up", {"path": "_redpoll|_delta_log", "action": "delay", "seconds": 2.5, "times": 3}),
]
PER_FAULT = 10


def prove(report):
    report.section("objects")
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return report.skip("objects", "AWS_ENDPOINT_URL is not set; run tests/services/s3.sh start")
    bucket = os.environ.get("REDPOLL_TEST_BUCKET", "redpoll-test")
    subprocess.run([lib.REPOSITORY / "tests/services/s3.sh", "bucket", bucket], check=True, capture_output=True)
    proxy = world.FaultProxy(endpoint.removeprefix("http://"))
    os.environ["AWS_ENDPOINT_URL"] = proxy.url
    try:
        Proofs(report, lib.scratch("misbehave-objects"), proxy, f"s3://{bucket}/misbehave-{uuid.uuid4()}").all()
    finally:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        proxy.close()


class Proofs:
    def __init__(self, report, folder, proxy, warehouse):
        self.report, self.proxy, self.folder = report, proxy, folder
        bounds = ["--store", "127.0.0.1:9", "--object-retries", "3", "--object-retry-time", "3s", "--object-timeout", "2s"]
        self.cluster = lib.Cluster(folder / "cluster", options=bounds, warehouse=warehouse)
        self.cluster.start()
        self.delta = {"AWS_ENDPOINT_URL": proxy.url, "AWS_ALLOW_HTTP": "true"}
        self.files, self.arrived = world.alerts(PER_FAULT * (len(FAULTS) + 3), folder / "made"), 0
        self.source = folder / "source"
        self.source.mkdir()
        self.stream = world.Stream(self.cluster, "objects", self.source, options="")

    def arrive(self, n):
        for path in self.files[self.arrived:self.arrived + n]:
            whole = self.folder / "arriving"
            shutil.copy(path, whole)
            whole.rename(self.source / path.name)
        self.arrived += n

    def exact(self, what):
        world.exact(self.report, what, self.stream.files(self.delta), {path.name for path in self.files[:self.arrived]})

    def all(self):
        self.arrive(PER_FAULT)
        self.stream.run()
        self.stream.wait(self.arrived)
        for what, rule in FAULTS:
            self.proxy.rules({"id": "fault", **rule})
            self.arrive(PER_FAULT)
            self.stream.wait(self.arrived, 60)
            fired = self.proxy.fired("fault")
            self.proxy.rules()
            self.report.check(what, fired, f"fired {fired} times")
        self.exact("after all of these")
        self.outage()
        self.stream.stop()
        self.uploads_in_parts()

    def outage(self):
        self.proxy.rules({"id": "down", "action": "status"})
        self.arrive(PER_FAULT)
        status = self.stream.wait_trouble("log|receipts|run|publish", 60)
        world.says(self.report, self.stream, status, "an S3 that refuses everything")
        fired = self.proxy.fired("down")
        self.proxy.rules()
        self.stream.wait(self.arrived, 60)
        self.report.check("is asked again and again, with pauses", 3 <= fired < 500, f"{fired} requests were refused")
        world.well(self.report, self.stream)
        self.exact("and nothing is lost or doubled")

    def uploads_in_parts(self):
        """Files of several parts: parts that fail once are sent again, an upload that fails for good is cancelled."""
        values = [path.read_bytes() for path in self.files[:60]]
        large = self.folder / "large"
        large.mkdir()
        for i in range(900):
            (large / f"{i:05}.avro").write_bytes(values[i % len(values)])
        self.proxy.rules(
            {"id": "part", "method": "PUT", "path": "partNumber", "action": "reset", "times": 2},
            {"id": "begin", "method": "POST", "path": "uploads", "action": "status", "times": 1},
            {"id": "end", "method": "POST", "path": "uploadId", "action": "status", "status": 500, "times": 1},
            {"id": "torn", "method": "PUT", "path": "partNumber", "action": "reset", "skip": 1, "times": 10},
            {"id": "cancelled", "method": "DELETE", "path": "uploadId", "action": "delay", "seconds": 0})
        stream = world.Stream(self.cluster, "large", large, options="", columns="*").run("--split-size", "1GiB", "--lanes", "1")
        stream.wait(900, 90)
        fired = {rule: self.proxy.fired(rule) for rule in ("part", "begin", "end", "torn")}
        self.report.check("uploads in parts are refused and torn", all(fired.values()), fired)
        lib.wait_for("the torn upload's end", lambda: self.proxy.fired("cancelled"), 10)
        self.report.check("an upload that failed for good is cancelled", True, f"{self.proxy.fired('cancelled')} times")
        self.proxy.rules()
        world.exact(self.report, "and the archive", stream.files(self.delta), {path.name for path in large.iterdir()})
        stream.stop()
