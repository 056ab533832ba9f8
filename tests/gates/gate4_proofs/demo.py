"""`redpoll demo` in an empty folder: what it shows, and that everything it says to type next works as it stands."""

import json
import re

import lib
from alerts import good, of_folder
from shell import on_terminal, plain, typed

# On two cores, with other work beside it. The first demo of a machine also fetches the packages of two science modules.
LIMIT = 300
SYMBOLS = "●○▲"


def statements(out):
    """The queries that are shown, each with what stands between it and the next."""
    parts = re.split(r"^  (?=SELECT )", out.split("5 ask")[1].split("✓ all of it")[0], flags=re.M)[1:]
    for part in parts:
        lines = part.split("\n")
        n = next(i for i, line in enumerate(lines) if i and not line.startswith("  "))
        yield " ".join(line.strip() for line in lines[:n]), "\n".join(lines[n:]).strip()


def proposals(out):
    """{what for: line to type} of the demo's last paragraph."""
    return dict(re.split(r"  +", line.strip(), maxsplit=1) for line in out.split("\nNext\n")[1].splitlines() if line.strip())


def check_ledger(report, out, folder):
    made = of_folder(folder / "redpoll-demo/night", "[0-9]*.avro")
    kept = sum(map(good, made))
    row = next(line.split() for line in out.splitlines() if re.search(r"night 0\.\.", line))
    numbers = [int(word.replace(",", "")) for word in row[-7:]]
    report.equal(
        "the ledger's line: fetched, absent, alerts, quarantined, kept", numbers[:5], [len(made) + 1, 0, len(made), 1, kept]
    )
    report.equal("  and kept + cut + unknown are all alerts", sum(numbers[4:]), len(made))


def check_answers(report, out, folder):
    asked = list(statements(out))
    report.equal("questions", len(asked), 3)
    for query, answer in asked[:2]:
        again = typed(f'redpoll sql "{query}"', folder, {"REDPOLL_WAREHOUSE": "redpoll-demo/warehouse"})
        report.check(
            "an answer is what `redpoll sql` gives to the query as it is shown",
            again.code == 0 and again.out.strip() == answer,
            f"{query[:60]}…: {answer.splitlines()[-1]}",
        )
    query, curve = asked[2]
    row = typed(f'redpoll sql "{query}" --format json', folder, {"REDPOLL_WAREHOUSE": "redpoll-demo/warehouse"})
    [row] = json.loads(row.out)
    points = sum(magnitude is not None for magnitude in row["magpsf"])
    rows = [line.split("┤")[-1].split("│")[-1] for line in curve.splitlines() if re.search("[┤│]", line)]
    drawn = sum(line.count(symbol) for line in rows for symbol in SYMBOLS)
    counted = sum(map(int, re.findall(r"\((\d+)\)", curve)))
    report.check(
        f"the light curve of {row['objectId']} is drawn",
        len(rows) >= 10 and row["objectId"] in curve and 0 < drawn <= points == counted,
        f"{drawn} marks of {points} detections in {len(rows)} rows",
    )


def check_proposals(report, out, folder):
    """Each line is typed as it is shown, FOLDER aside, in the shell that was told the warehouse."""
    lines = proposals(out)
    export = lines.pop("name this warehouse")
    report.check("a line names the warehouse", export.startswith("export REDPOLL_WAREHOUSE="), export)
    typed("redpoll simulate --to mine --count 12 --seed 77", folder)
    expected = {
        "redpoll quarantine": "damaged.avro",
        "redpoll sql": "ZTF",
        "redpoll topics": "fink_bright_ztf",
        "less": "CREATE VIEW good",
        "redpoll run": "12 alerts",
    }
    for line in lines.values():
        done = typed(f"{export}; {line.replace('FOLDER', 'mine')}", folder)
        wanted = next((text for start, text in expected.items() if line.startswith(start)), None)
        report.check(
            f"next: {line}",
            done.code == 0 and wanted and wanted in done.out,
            done.said if done.code else done.out.strip().splitlines()[0][:90],
        )


def demo(report):
    folder = lib.scratch("gate4-demo")
    done = typed("redpoll demo", folder, timeout=LIMIT)
    report.check("redpoll demo, piped, ends with 0", done.code == 0, done.said if done.code else f"after {done.seconds:.1f} s")
    report.check(
        "it says how long it took", re.search(r"all of it in [\d.]+ (s|min)", done.out), re.findall(r"all of it in .*", done.out)
    )
    report.check(
        "nothing is drawn where nobody watches",
        "\x1b" not in done.out + done.err and "━" not in done.err,
        f"{len(done.err.splitlines())} lines of progress",
    )
    check_ledger(report, done.out, folder)
    check_answers(report, done.out, folder)
    check_proposals(report, done.out, folder)

    watched = on_terminal("redpoll demo --count 500", folder, timeout=LIMIT)
    report.check(
        "on a terminal there are bars and colours",
        watched.code == 0 and "━" in watched.out and "\x1b[" in watched.out,
        f"{watched.seconds:.1f} s",
    )
    report.check("  which leave the text as it is", "500 alerts" in plain(watched.out) and "Next" in plain(watched.out))
    (folder / "other").mkdir()
    (folder / "other/notes.txt").write_text("mine")
    refused = typed("redpoll demo --dir other", folder)
    report.check(
        "a folder with other things is refused, and left alone",
        refused.code == 2 and (folder / "other/notes.txt").exists(),
        refused.said,
    )
