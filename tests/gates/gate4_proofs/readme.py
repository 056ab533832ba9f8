"""The README's first pipeline, taken out of the README and done to the letter."""

import collections
import json
import re

import lib
from alerts import good, of_folder, oracle
from shell import typed

README = lib.REPOSITORY / "README.md"


def section(title):
    return re.search(rf"^## {title}\n.*?(?=^## )", README.read_text(), re.M | re.S).group()


def blocks(text):
    """(language, text, the line before it) of each fenced block."""
    return [
        (language, body, before.strip()) for before, language, body in re.findall(r"([^\n]*)\n\n```(\w+)\n(.*?)```", text, re.S)
    ]


def check_answer(report, line, out, folder):
    """What each command shows against what the alerts hold."""
    alerts = of_folder(folder / "night")
    kept = [alert for alert in alerts if good(alert)]
    bright = [alert["candid"] for alert in kept if alert["candidate"]["magpsf"] < 18]
    if line.startswith("redpoll sql"):
        most = collections.defaultdict(int)
        for alert in kept:
            most[alert["objectId"]] = max(most[alert["objectId"]], oracle.n_detections(alert))
        rows = [row.split() for row in out.splitlines()[2:7]]
        wanted = sorted(most.values(), reverse=True)[:5]
        report.check(
            "  the five objects with most detections",
            [int(n) for _, n in rows] == wanted and all(most[name] == int(n) for name, n in rows),
            rows,
        )
    elif line.startswith("redpoll ledger"):
        ledger = json.loads(typed(f"{line.split('#')[0]} --format json", folder).out)
        sums = [
            sum(of(entry) for entry in ledger)
            for of in (
                lambda entry: entry["decoded"],
                lambda entry: entry["kept"],
                lambda entry: sum(entry["cut"].values()) + sum(entry["unknown"].values()),
            )
        ]
        report.equal("  alerts, kept, cut and unknown", sums, [len(alerts), len(kept), len(alerts) - len(kept)])
        report.check("  as the table has them", f"{len(kept):,}" in out and f"{len(alerts):,}" in out)
    elif line.startswith("redpoll topics"):
        topic = sorted(alert["candid"] for alert in of_folder(folder / "topics/bright"))
        report.check(
            "  the topic bright holds the bright ones",
            "bright" in out and topic == sorted(bright) and bright,
            f"{len(bright)} alerts",
        )
    elif line.startswith("redpoll run"):
        report.check("  it read all alerts", f"{len(alerts):,} alerts" in out, out.splitlines()[0])


def readme(report):
    folder = lib.scratch("gate4-readme")
    found = blocks(section("A first pipeline"))
    report.equal("blocks of the README", [language for language, _, _ in found], ["sh", "sql", "sh"])
    for language, body, before in found:
        if language == "sql":
            name = re.search(r"`([\w.]+)`", before).group(1)
            (folder / name).write_text(body)
            continue
        for line in filter(None, body.splitlines()):
            done = typed(line, folder)
            command = line.split("  ")[0]
            report.check(command, done.code == 0, done.said if done.code else f"{done.seconds:.1f} s")
            check_answer(report, line, done.out, folder)
    again = typed("redpoll run first.sql --available-now", folder)
    report.check("run again, nothing is read twice", again.code == 0 and "nothing new" in again.out, again.out.strip())
    commands(report)


def commands(report):
    """Every other command of the README and the guide is one that the program knows, with options that it knows."""
    pages = [README, *sorted((lib.REPOSITORY / "docs").glob("*/*.md"))]
    wrong, n = [], 0
    for page in pages:
        for _, body, _ in blocks(page.read_text()):
            for line in re.findall(r"^redpoll (?:[^#|>\n\\]|\\\n)*", body, re.M):
                if "COMMAND" in line or "…" in line:
                    continue
                n += 1
                done = typed(f"{line.strip()} --help", lib.REPOSITORY)
                if done.code:
                    wrong.append((page.name, line, done.said))
    report.check(f"{n} commands of {len(pages)} pages are those of the program", n > 30 and not wrong, wrong[:3])
