"""Retention deletes what was to be read: before it is planned, and after its intent is logged."""
from confluent_kafka import TopicPartition

import lib
import world


def prove(report):
    report.section("expiry")
    folder = lib.scratch("misbehave-expiry")
    broker = world.Broker(folder)
    try:
        values = [path.read_bytes() for path in world.alerts(60, folder / "made")]
        cluster = lib.Cluster(folder / "cluster")
        cluster.start()
        before_it_is_planned(report, broker, cluster, values)
        after_its_intent(report, broker, cluster, values)
    finally:
        broker.close()


def expire(broker, topic, before):
    """As retention does: nothing below this offset is held any more."""
    broker.admin.delete_records([TopicPartition(topic, 0, before)])[TopicPartition(topic, 0, before)].result(30)


def expired(stream):
    return [tuple(span) for line in stream.ledger() for counts in line["source"] for span in counts.get("expired", [])]


def resume(report, stream):
    done = lib.redpoll("resume", stream.name, "--skip", "--scheduler", stream.cluster.url)
    report.check("resume --skip", done.returncode == 0, (done.stdout + done.stderr).replace("\n", " "))


def before_it_is_planned(report, broker, cluster, values):
    for policy in ("fail", "skip"):
        topic = broker.create(f"planned_{policy}")
        broker.send(topic, values[:20])
        stream = world.Stream(cluster, topic, f"kafka://{broker.servers}/{topic}").run("--on-expired", policy)
        stream.wait(20)
        stream.stop()
        broker.send(topic, values[20:50])
        expire(broker, topic, 32)
        stream.run("--on-expired", policy)
        if policy == "fail":
            status = stream.wait_trouble("expired")
            world.says(report, stream, status, "offsets that retention deleted", f"{topic}[0] offsets 20..32", "--skip")
            refused = lib.redpoll("resume", stream.name, "--scheduler", cluster.url)
            report.equal("resume without a word is wrong use", refused.returncode, 2)
            report.equal("and nothing is read meanwhile", stream.status()["decoded"], 20)
            resume(report, stream)
        stream.wait(38)
        report.equal(f"--on-expired {policy}: the ledger names them", expired(stream), [(20, 32)])
        wanted = {(topic, 0, offset) for offset in [*range(20), *range(32, 50)]}
        world.exact(report, "and the rest is read", stream.positions(), wanted)
        idle = lib.redpoll("resume", stream.name, "--skip", "--scheduler", cluster.url)
        report.check("a job that does not wait refuses an answer", idle.returncode == 1 and "does not wait" in idle.stderr, idle.stderr.strip())
        stream.stop()


def after_its_intent(report, broker, cluster, values):
    topic = broker.create("intended")
    broker.send(topic, values[:10])
    stream = world.Stream(cluster, topic, f"kafka://{broker.servers}/{topic}").run()
    stream.wait(10)
    # Nobody can run the epoch that is planned next.
    for executor in cluster.executors:
        executor.kill()
    broker.send(topic, values[10:40])
    job = cluster.job(topic)
    planned = lib.wait_for("an intent that nobody runs", job.open_epoch, 30)
    start = min(r["start"] for split in planned["splits"] for r in split["ranges"])
    end = max(r["end"] for split in planned["splits"] for r in split["ranges"])
    expire(broker, topic, end - 2)
    cluster.executors = [cluster.start_executor() for _ in range(2)]
    cluster.wait_ready()
    status = stream.wait_trouble("expired", 60)
    world.says(report, stream, status, "an epoch whose offsets expired after its intent", f"{topic}[0] offsets {start}..{end - 2}")
    # A new scheduler finds the same in the log.
    cluster.scheduler.kill()
    cluster.start_scheduler()
    cluster.wait_ready()
    status = stream.wait_trouble("expired", 60)
    report.check("a new scheduler waits too", status["state"] == "degraded", status["reason"])
    before = status["reruns"]
    again = lib.redpoll("resume", stream.name, "--rerun", "--scheduler", cluster.url)
    lib.wait_for("one more run", lambda: stream.status().get("reruns", 0) > before, 60)
    report.equal("resume --rerun tries once more", again.returncode, 0)
    lib.wait_for("the same question", lambda: stream.status().get("doing") == "waiting" and stream.status().get("expired"), 60)
    resume(report, stream)
    stream.wait(40 - (end - 2 - start))
    report.equal("the ledger names them", expired(stream), [(start, end - 2)])
    wanted = {(topic, 0, offset) for offset in [*range(start), *range(end - 2, 40)]}
    world.exact(report, "and the rest is read", stream.positions(), wanted)
    world.well(report, stream)
    stream.stop()
