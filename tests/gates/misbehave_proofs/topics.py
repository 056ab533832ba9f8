"""Topics that get more partitions, that vanish, and that are created anew under their old name."""
import lib
import world


def prove(report):
    report.section("topics")
    folder = lib.scratch("misbehave-topics")
    broker = world.Broker(folder)
    try:
        values = [path.read_bytes() for path in world.alerts(120, folder / "made")]
        cluster = lib.Cluster(folder / "cluster")
        cluster.start()
        more_partitions(report, broker, cluster, values)
        for n in (5, 60):
            created_anew(report, broker, cluster, values, n)
        a_pattern_that_matches_nothing_yet(report, broker, cluster, values)
    finally:
        broker.close()


def more_partitions(report, broker, cluster, values):
    topic = broker.create("growing")
    broker.send(topic, values[:20])
    stream = world.Stream(cluster, "growing", f"kafka://{broker.servers}/{topic}").run()
    stream.wait(20)
    broker.admin.create_partitions([world.NewPartitions(topic, 3)])[topic].result(30)
    for partition in range(3):
        broker.send(topic, values[20 + 10 * partition:30 + 10 * partition], partition)
    stream.wait(50)
    wanted = {(topic, 0, offset) for offset in range(30)} | {(topic, partition, offset) for partition in (1, 2) for offset in range(10)}
    world.exact(report, "partitions that are added while it runs are read from their start", stream.positions(), wanted)
    stream.stop()


def created_anew(report, broker, cluster, values, n):
    """A topic of 20 alerts is deleted and comes back with `n` others: fewer than were read, as many, and more."""
    topic = broker.create(f"anew{n}")
    broker.send(topic, values[:20])
    stream = world.Stream(cluster, topic, f"kafka://{broker.servers}/{topic}").run()
    stream.wait(20)
    broker.delete(topic)
    status = stream.wait_trouble("source")
    world.says(report, stream, status, "a topic that is missing", topic)
    broker.create(topic)
    broker.send(topic, (values[20:] + values)[:n])
    lib.wait_for("word of the new topic", lambda: "created anew" in (stream.status().get("reason") or ""), 30)
    status = stream.status()
    world.says(report, stream, status, f"a topic that is created anew with {n} alerts", "created anew", "another --name")
    world.exact(report, "nothing of it is read as if it were the old one", stream.positions(), {(topic, 0, i) for i in range(20)})
    stream.stop()
    other = world.Stream(cluster, f"{topic}_again", f"kafka://{broker.servers}/{topic}").run()
    other.wait(n)
    world.exact(report, "under another name the new one is read", other.positions(), {(topic, 0, i) for i in range(n)})
    other.stop()


def a_pattern_that_matches_nothing_yet(report, broker, cluster, values):
    source = f"kafka://{broker.servers}"
    stream = world.Stream(cluster, "later", source, world.SHORT + ", 'topic' '^later_.*'").run("--from", "latest")
    # It has asked before the topic is there: a topic that appears later is new from its first record.
    lib.wait_for("a job that waits", lambda: stream.status().get("doing") == "waiting", 20)
    topic = broker.create("later_1")
    broker.send(topic, values[:15])
    stream.wait(15)
    world.exact(report, "--from latest on a pattern that matched nothing: what comes later is read from its start", stream.positions(),
                {(topic, 0, i) for i in range(15)})
    stream.stop()
