"""What is drawn on a terminal, and what Ctrl-C does there."""

import json

import lib
from alerts import of_folder
from shell import on_terminal, plain, typed
from simulated import simulate

COPY = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION 'night' OPTIONS ('format' 'ztf');
CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
INSERT INTO copy SELECT objectId, candid, candidate FROM alerts;
"""


def terminal(report):
    folder = lib.scratch("gate4-terminal")
    (folder / "copy.sql").write_text(COPY)
    made = on_terminal("redpoll simulate --to night --count 300 --rate 150", folder)
    report.check(
        "simulate draws a bar with its rate",
        made.code == 0 and "━" in made.out and "of 300 alerts" in plain(made.out),
        f"{made.seconds:.1f} s",
    )
    simulate("--to night --count 2000 --seed 3", folder)
    ran = on_terminal("redpoll run copy.sql --available-now --split-size 1MiB --lanes 2 --name bar", folder)
    report.check("run draws a bar", ran.code == 0 and "━" in ran.out and "waiting" in plain(ran.out), f"{ran.seconds:.1f} s")
    last = plain(ran.out).rstrip().splitlines()
    report.check(
        "  and takes it away at the end",
        not any("━" in line.split("\r")[-1] for line in last[-4:]) and any(line.startswith("copy ") for line in last[-2:]),
        last[-1],
    )
    width = max(len(line) for piece in plain(ran.out).splitlines() for line in piece.split("\r"))
    report.check("  within the terminal's width", width <= 110, f"{width} of 110 columns")
    piped = typed("redpoll run copy.sql --available-now --name piped --format json", folder)
    report.check(
        "piped, stdout is one JSON object and stderr plain lines",
        piped.code == 0 and json.loads(piped.out)["decoded"] == 2300 and "\x1b" not in piped.err,
        piped.err.strip()[:100] or "no lines",
    )

    simulate("--to night --count 100 --seed 2", folder)
    ended = on_terminal("redpoll run copy.sql --until +10min --name bounded", folder, [("alerts", b"\x03")])
    report.check(
        "Ctrl-C ends a job that had more time with 130, its epoch done first",
        ended.code == 130 and "stopping bounded once its epoch is done" in plain(ended.out),
        f"exit {ended.code} after {ended.seconds:.1f} s",
    )
    state = json.loads(typed("redpoll describe bounded --format json", folder).out)
    report.equal("  the job's log says that it was stopped", state["state"], "stopped")
    ended = on_terminal("redpoll run copy.sql --name endless", folder, [("alerts", b"\x03")])
    report.check(
        "Ctrl-C ends a job without an end with 0",
        ended.code == 0 and "runs until Ctrl-C" in plain(ended.out),
        f"exit {ended.code} after {ended.seconds:.1f} s",
    )
    ended = on_terminal("redpoll run copy.sql --until +10min --name twice --split-size 256KiB", folder, [("alerts", b"\x03\x03")])
    report.check("Ctrl-C twice quits at once with 130", ended.code == 130, f"exit {ended.code} after {ended.seconds:.1f} s")
    again = typed("redpoll run copy.sql --available-now --name twice --format json", folder)
    found = json.loads(typed("redpoll describe twice --format json", folder).out)
    report.check(
        "  and the next run goes on to the end",
        again.code == 0 and found["decoded"] == len(of_folder(folder / "night")),
        f"{found['decoded']} alerts, {found['state']}",
    )
    rows = json.loads(typed("redpoll sql 'SELECT count(*) AS n FROM copy' --format json", folder).out)[0]["n"]
    lines = json.loads(typed("redpoll ledger --format json", folder).out)
    report.equal("the archive has the rows of all ledgers", rows, sum(line["sinks"].get("copy", 0) for line in lines))
