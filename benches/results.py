"""RESULTS.md: each run of a measurement appends what it found, with the commit and the machine."""
import datetime
import os
import pathlib
import platform
import subprocess

import lib

FILE = pathlib.Path(__file__).resolve().parent / "RESULTS.md"
REAL = lib.SAMPLES / "ztf" / "ztf_public_20200101.tar.gz"
# What the design wants of the night with modules: CPU, memory; and from start to the first result.
GOAL_CPU_US, GOAL_MIB, GOAL_FIRST_S = 1300, 1024, 1.0


def line(engine, work, count, cost):
    first = "" if cost.first is None else f", first result after {cost.first:.1f} s"
    return (f"{engine}, {work}: {cost.cpu * 1e6 / count:,.0f} us of CPU per alert, {count / cost.wall:,.0f} alerts/s, "
            f"peak {cost.peak_mib:,.0f} MiB{first}")


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", FILE.parent, *arguments], capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "..", f":!{FILE.name}")
    return git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def machine():
    cpu = next((row.partition(":")[2].strip() for row in open("/proc/cpuinfo") if row.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores ({cpu})"


def append(title, paragraphs):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    version = subprocess.run([lib.REDPOLL, "--version"], capture_output=True, text=True).stdout.strip()
    head = f"## {title}\n\n{now}, commit {commit()}, {version} (dev profile), {machine()}."
    with open(FILE, "a", encoding="utf-8") as file:
        file.write("\n" + "\n\n".join([head, *paragraphs]) + "\n")


def night(rows, count, source):
    table = ["| engine | work | CPU us/alert | alerts/s | peak RSS MiB | first result s | whole run s | load |",
             "|---|---|---|---|---|---|---|---|"]
    for engine, work, n, cost in rows:
        per_alert = f"{cost.cpu * 1e6 / n:,.0f}" if n > 1 else f"{cost.cpu:.2f} s in all"
        rate = f"{n / cost.wall:,.0f}" if n > 1 else ""
        first = "" if cost.first is None else f"{cost.first:.1f}"
        table.append(f"| {engine} | {work} | {per_alert} | {rate} | {cost.peak_mib:,.0f} | {first} | {cost.wall:.1f} | {cost.load:.1f} |")
    costs = {(engine, work): cost for engine, work, _, cost in rows}
    append(f"night, {count:,} {source}", ["\n".join(table), "\n".join(verdicts(costs, count))])


def verdicts(costs, count):
    ours = costs["Redpoll", "three modules"]
    first = costs["Redpoll", "one alert, no modules"].first

    def goal(what, value, limit, unit, digits=0):
        word = "met" if value <= limit else "LOSS"
        return f"- {word}: {what} {value:,.{digits}f} {unit}, goal at most {limit:,.{digits}f}"

    found = [goal("three modules, CPU per alert", ours.cpu * 1e6 / count, GOAL_CPU_US, "us"),
             goal("three modules, peak RSS", ours.peak_mib, GOAL_MIB, "MiB"),
             goal("start to first result of one alert", first, GOAL_FIRST_S, "s", 1)]
    for (engine, work), theirs in costs.items():
        if engine == "PySpark":
            our = costs["Redpoll", work.partition(",")[0] if "decoded" in work else work]
            for what, a, b in [("CPU", our.cpu, theirs.cpu), ("wall time", our.wall, theirs.wall), ("peak RSS", our.peak_mib, theirs.peak_mib)]:
                found.append(f"- {'better' if a <= b else 'LOSS'}: {work}: {what} is {a / b:.2f} of PySpark's")
    return found


def micro(rows, load):
    table = ["| step | cost | unit |", "|---|---|---|", *[f"| {what} | {value:,.1f} | {unit} |" for what, value, unit in rows]]
    append("micro", [f"Load average {load:.1f}.", "\n".join(table)])
