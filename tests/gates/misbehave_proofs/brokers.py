"""A broker that is killed, slow, cut off, or not there when the scheduler starts."""

import lib
import world


def prove(report):
    report.section("brokers")
    folder = lib.scratch("misbehave-brokers")
    broker = world.Broker(folder)
    try:
        Proofs(report, folder, broker).all()
    finally:
        broker.close()


class Proofs:
    def __init__(self, report, folder, broker):
        self.report, self.broker, self.topic = report, broker, broker.create("brokers", 2)
        self.values = [path.read_bytes() for path in world.alerts(700, folder / "made")]
        self.sent = 0
        self.cluster = lib.Cluster(folder / "cluster")
        self.cluster.start()
        self.stream = world.Stream(self.cluster, "brokers", f"kafka://{broker.servers}/{self.topic}")

    def send(self, n):
        for partition in (0, 1):
            self.broker.send(self.topic, self.values[self.sent + partition:self.sent + n:2], partition)
        self.sent += n

    def wanted(self):
        return {(self.topic, partition, offset) for partition in (0, 1) for offset in range(self.sent // 2)}

    def all(self):
        self.send(200)
        self.stream.run("--split-size", "256KiB")
        self.killed_in_an_epoch()
        self.slow_and_cut_off()
        self.away_at_the_start()
        world.exact(self.report, "after all of it", self.stream.positions(), self.wanted())
        self.stream.stop()

    def metrics(self):
        return lib.text(f"{self.cluster.url}/metrics").splitlines()

    def killed_in_an_epoch(self):
        job = self.cluster.job("brokers")
        epoch = lib.wait_for("an epoch under way", job.open_epoch, 30, pause=0.01)
        self.broker.kill()
        self.report.note(f"killed while epoch {epoch['epoch']} was under way or just prepared")
        status = self.stream.wait_trouble("source|run")
        world.says(self.report, self.stream, status, "a broker killed in mid-epoch")
        failing = [line for line in self.metrics() if line.startswith("redpoll_job_failed_tries") and not line.endswith(" 0")]
        self.report.check("and so does /metrics", failing, failing)
        self.broker.start()
        self.send(100)
        self.stream.wait(300, 60)
        world.well(self.report, self.stream)
        world.exact(self.report, "a broker that came back", self.stream.positions(), self.wanted())

    def slow_and_cut_off(self):
        self.send(200)
        self.broker.proxy.rules({"id": "slow", "action": "delay", "seconds": 0.2, "probability": 0.3, "times": 25},
                                {"id": "cut", "action": "reset", "skip": 10, "probability": 0.1, "times": 6})
        self.stream.wait(500, 60)
        fired = {rule: self.broker.proxy.fired(rule) for rule in ("slow", "cut")}
        self.broker.proxy.rules()
        self.report.check("a broker that is slow and whose connections break", all(fired.values()), fired)
        world.exact(self.report, "and nothing is lost or doubled", self.stream.positions(), self.wanted())

    def away_at_the_start(self):
        self.broker.kill()
        self.cluster.scheduler.kill()
        self.cluster.start_scheduler()
        status = self.stream.wait_trouble("begin", 60)
        world.says(self.report, self.stream, status, "a broker that is away when the scheduler starts")
        self.broker.start()
        self.send(200)
        self.stream.wait(700, 90)
        world.well(self.report, self.stream)
