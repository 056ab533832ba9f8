"""A scheduler, an executor and a store as processes: a job that is started, watched, measured and stopped by its user."""

import json
import re
import time

import lib
from alerts import good, of_folder
from shell import typed

NIGHT = f"{lib.REPOSITORY}/pipelines/ztf/night.sql"
COUNT, RATE = 240, 30
COPY = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION 'night' OPTIONS ('format' 'ztf');
CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
INSERT INTO copy SELECT candid FROM alerts;
"""


class Apart(lib.Cluster):
    """Roles that log JSON, each to a file of its own, and a store that is a process of its own."""

    apart = True

    def __init__(self, folder):
        self.store_address = f"127.0.0.1:{lib.free_port()}"
        super().__init__(folder, n_executors=1, options=["--store", self.store_address, "--log", "json"])

    def start_store(self):
        self.store = lib.Process(
            "store",
            [lib.REDPOLL, "store", "--folder", self.folder / "store", "--bind", self.store_address, "--log", "json"],
            self.folder,
            apart=True,
        )
        lib.wait_for("the store", lambda: f"store at {self.store_address}" in self.store.log.read_text(), 30)


def metrics(url):
    """{name{labels}: value} as Prometheus would scrape it."""
    lines = lib.text(f"{url}/metrics").splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and not line.startswith("#")}


def series(metric, job, **labels):
    """A metric of a job, as its line begins."""
    words = sorted({"job": job, **labels}.items())
    return f"{metric}{{{','.join(f'{name}={json.dumps(value)}' for name, value in words)}}}"


def check_metrics(report, seen, late, ledger, job):
    """`seen` while the job ran, and `late` when it was stopped."""
    decoded, count, lag = (
        series("redpoll_alerts_total", job, fate="decoded"),
        series("redpoll_epoch_seconds_count", job),
        series("redpoll_backlog_records", job),
    )
    early, last = next(scrape for scrape in seen if scrape.get(decoded)), seen[-1]
    report.check(
        "/metrics: alerts decoded, moving",
        early[decoded] < last[decoded] == COUNT,
        f"{early[decoded]:.0f}, then {last[decoded]:.0f}",
    )
    report.check(
        "  the latency histogram, moving", 0 < early[count] < last[count], f"{early[count]:.0f} epochs, then {last[count]:.0f}"
    )
    buckets = [value for name, value in late.items() if name.startswith("redpoll_epoch_seconds_bucket") and json.dumps(job) in name]
    report.check("  its buckets add up", len(buckets) > 5 and buckets == sorted(buckets) and buckets[-1] == late[count], buckets)
    lags = [scrape[lag] for scrape in seen if lag in scrape]
    report.check("  the lag, which goes down to nothing", max(lags) > 0 == lags[-1], f"up to {max(lags):.0f} records")
    report.check("  and is not told of a job that is stopped", lag not in late)
    for fate in ("decoded", "kept", "quarantined"):
        wanted = sum(line[fate] for line in ledger)
        report.equal(f"  {fate}, as in the ledger", late[series("redpoll_alerts_total", job, fate=fate)], wanted)
    for sink in ("ztf.raw", "ztf.objects"):
        wanted = sum(line["sinks"][sink] for line in ledger)
        report.equal(f"  rows of {sink}, as in the ledger", late[series("redpoll_sink_rows_total", job, sink=sink)], wanted)


def far_behind(report, folder, cluster):
    """The lag is all that waits, not what the next epoch takes."""
    (folder / "copy.sql").write_text(COPY)
    options = "--name behind --split-size 200KiB --lanes 1 --trigger 500ms"
    typed(f"redpoll run copy.sql --scheduler {cluster.url} {options}", folder)
    waiting = lambda: cluster.job("behind").status().get("backlog") or 0
    most = lib.wait_for("a lag", lambda: max(waiting(), waiting()), 30)
    report.check(
        "a job of small epochs says how far behind it is", most > COUNT / 2, f"{most} of {COUNT} files wait, 3 are an epoch"
    )
    typed(f"redpoll stop behind --scheduler {cluster.url}", folder)
    lib.wait_for("the end of the job", lambda: cluster.job("behind").stopped(), 60)


def check_logs(report, cluster, n_epochs, job):
    entries = {}
    for process in (cluster.scheduler, *cluster.executors, cluster.store):
        lines = [line for line in process.errors.read_text().splitlines()]
        try:
            entries[process.name] = [json.loads(line) for line in lines]
            wrong = [entry for entry in entries[process.name] if not {"timestamp", "level"} <= entry.keys()]
        except ValueError as error:
            entries[process.name], wrong = [], [error]
        report.check(
            f"--log json: each of {len(lines)} lines of {process.name} is a JSON object with time and level",
            not wrong,
            wrong[:1] or "",
        )
    traces, spans = {}, {}
    for entry in entries["scheduler"]:
        span = entry.get("span", {})
        if span.get("job") == job and "epoch" in span and entry.get("message") == "close":
            traces.setdefault(span["epoch"], set()).add(span.get("trace_id"))
            spans.setdefault(span["epoch"], set()).add(span["name"])
    ids = [trace for found in traces.values() for trace in found]
    report.check(
        "each epoch has one trace id, and no other has it",
        len(traces) == n_epochs
        and len(ids) == len(set(ids)) == n_epochs
        and all(re.fullmatch("[0-9a-f]{32}", id or "") for id in ids),
        f"{len(traces)} epochs, such as {ids[0]}",
    )
    whole = {"epoch", "plan", "run", "receipts", "prepare", "publish", "commit"}
    # Several epochs may be published together: then these two spans are in the trace of the last.
    report.check(
        "  from its plan to its commit",
        all(whole - {"publish", "commit"} <= found for found in spans.values()) and any(found == whole for found in spans.values()),
        sorted(spans[max(spans)]),
    )


def follow(report, folder, cluster):
    """The job as its user sees it; the lines that `run` proposes are typed as they stand."""
    started = typed(
        f"redpoll run {NIGHT} --scheduler {cluster.url} --set source=night --set science=off --trigger 300ms --archive-interval 1s",
        folder,
    )
    report.check(
        "run with a scheduler returns once the job has begun",
        started.code == 0 and "job ztf-night is running" in started.out,
        started.said if started.code else f"{started.seconds:.1f} s",
    )
    watch, stop = (re.search(rf"{what} it +(redpoll .*)", started.out).group(1) for what in ("watch", "stop"))
    feeding = lib.Process(
        "simulate", [lib.REDPOLL, "simulate", "--to", folder / "night", "--count", COUNT, "--mixed", "--rate", RATE], folder
    )
    decoded = lambda: json.loads(typed(f"{watch} --format json", folder).out)["decoded"]
    seen = []
    look = lambda: seen.append(metrics(cluster.url)) or decoded()
    lib.wait_for("the first alerts", lambda: look() >= 30, 60)
    listed = typed(f"redpoll jobs --scheduler {cluster.url}", folder)
    row = next(line.split() for line in listed.out.splitlines() if line.startswith("ztf-night"))
    report.check("jobs shows it running", row[1] == "running" and int(row[2]) > 0, " ".join(row))
    lib.wait_for("the last alerts", lambda: look() == COUNT, 60)
    report.check("the simulator is done", feeding.wait(60) == 0, f"{COUNT} alerts at {RATE}/s")
    lag = series("redpoll_backlog_records", "ztf-night")
    lib.wait_for(
        "no lag, and the commit of the last epoch",
        lambda: look() and seen[-1][lag] == 0 and seen[-1][series("redpoll_alerts_total", "ztf-night", fate="decoded")] == COUNT,
        60,
    )
    described = typed(watch, folder)
    report.check(
        f"{watch}: state, alerts, rules, sinks",
        all(word in described.out for word in ("running", f"{COUNT} decoded", "candidate.nbad = 0", "ztf.objects")),
        described.out.splitlines()[0],
    )
    every = typed(f"redpoll describe --scheduler {cluster.url}", folder)
    report.check("describe of everything lists the executors too", "vcores" in every.out and "live" in every.out)
    stopped = typed(stop, folder)
    report.check(
        stop, stopped.code == 0 and "stops once its epoch" in stopped.out, stopped.said if stopped.code else stopped.out.strip()
    )
    lib.wait_for("the end of the job", lambda: cluster.job("ztf-night").stopped(), 60)
    return seen


def cluster(report):
    folder = lib.scratch("gate4-cluster")
    (folder / "night").mkdir()
    cluster = Apart(folder)
    cluster.start_store()
    cluster.start()
    seen = follow(report, folder, cluster)
    late = metrics(cluster.url)
    ledger = json.loads(typed(f"redpoll ledger --scheduler {cluster.url} --format json", folder).out)
    same = json.loads(typed(f"redpoll ledger --warehouse {cluster.warehouse} --format json", folder).out)
    report.check(
        "the ledger is the same from the scheduler and from the warehouse",
        ledger == same and len(ledger) > 3,
        f"{len(ledger)} epochs",
    )
    check_metrics(report, seen, late, ledger, "ztf-night")
    alerts = of_folder(folder / "night")
    keys = {f"{alert['objectId']}_{alert['candidate']['jd']!r}" for alert in alerts if good(alert)}
    asked = typed(f"redpoll sql 'SELECT _row_key FROM ztf.objects' --format json --scheduler {cluster.url}", folder)
    report.check(
        "the store of its own process has the night's rows",
        {row["_row_key"] for row in json.loads(asked.out or "[]")} == keys,
        f"{len(keys)} rows" if asked.code == 0 else asked.said,
    )
    inside = cluster.warehouse / "_redpoll" / "store"
    report.check("  and the scheduler opened none", not inside.exists() and any((folder / "store").iterdir()))
    far_behind(report, folder, cluster)
    took = cluster.stop()
    report.check("all end when they are told to", None not in took.values(), took)
    cluster.store.terminate()
    report.equal("  the store too", cluster.store.wait(30), 0)
    check_logs(report, cluster, len(ledger), "ztf-night")
    cluster.start_store()
    begun = time.monotonic()
    cluster.start()
    asked = typed(f"redpoll sql 'SELECT count(*) AS n FROM ztf.objects' --format csv --scheduler {cluster.url}", folder)
    report.equal(f"started again on its folder, the store has them still", asked.out.split(), ["n", str(len(keys))])
    report.note(f"answered {time.monotonic() - begun:.1f} s after the start")
