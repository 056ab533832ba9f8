"""The commands that look at what a night left: their answers, their errors, and how the environment and the shell speak to them."""

import collections
import csv
import io
import json
import os
import re
import shutil

import lib
import topic
from alerts import good, of_folder, oracle
from shell import examples, on_terminal, plain, typed
from simulated import Topics, simulate

NIGHT = f"{lib.REPOSITORY}/pipelines/ztf/night.sql"
LEDGER = {
    "epoch": int,
    "source": list,
    "fetched": int,
    "absent": int,
    "decoded": int,
    "quarantined": int,
    "kept": int,
    "cut": dict,
    "unknown": dict,
    "sinks": dict,
}
WHERE = {"REDPOLL_WAREHOUSE": "archive"}


def the_night(report, folder):
    """400 alerts of every kind and two files that do not decode, without science modules, in three epochs."""
    simulate("--count 400 --mixed --to night", folder)
    first = sorted((folder / "night").iterdir())[0].read_bytes()
    (folder / "night/cut.avro").write_bytes(first[:2000])
    (folder / "night/no.avro").write_bytes(b"<html>503</html>\n")
    done = typed(
        f"redpoll run {NIGHT} --set source=night --set science=off --warehouse archive --available-now --split-size 4MiB --lanes 3",
        folder,
    )
    report.check(
        "redpoll run ends with 0 and a warning",
        done.code == 0 and "2 records did not decode" in done.out,
        done.said if done.code else done.out.splitlines()[-1],
    )
    report.check("piped, it draws nothing", "\x1b" not in done.out + done.err and "━" not in done.err, done.err.strip()[:100])
    science = json.loads(
        typed(
            "redpoll sql 'SELECT count(*) AS n, count(roid) AS roid, min(nalerthist) AS least FROM ztf.science' --format json",
            folder,
            WHERE,
        ).out
    )
    kept = sum(map(good, of_folder(folder / "night", "[0-9]*.avro")))
    report.equal(
        "--set science=off: rows, values of roid_catcher, least number of detections",
        [list(row.values()) for row in science],
        [[kept, 0, 1]],
    )


def ledger(report, folder):
    alerts = of_folder(folder / "night", "[0-9]*.avro")
    lines = json.loads(typed("redpoll ledger --format json", folder, WHERE).out)
    wrong = [(name, line.get(name)) for line in lines for name, kind in LEDGER.items() if not isinstance(line.get(name), kind)]
    report.check(f"ledger --format json: {', '.join(LEDGER)}", len(lines) > 1 and not wrong, wrong or f"{len(lines)} epochs")
    total = lambda name: sum(line[name] for line in lines)
    merged = lambda name: dict(sum((collections.Counter(line[name]) for line in lines), collections.Counter()))
    verdicts = collections.Counter(map(oracle.judge, alerts))
    by_rule = lambda kind: {rule: n for (what, rule), n in verdicts.items() if what == kind}
    report.equal(
        "its sums: fetched, absent, decoded, quarantined, kept",
        [total(name) for name in ("fetched", "absent", "decoded", "quarantined", "kept")],
        [402, 0, 400, 2, sum(map(good, alerts))],
    )
    report.equal("  cut by rule", merged("cut"), by_rule("cut"))
    report.equal("  unknown by rule", merged("unknown"), by_rule("unknown"))
    report.equal(
        "  rows of ztf.raw and ztf.science",
        [merged("sinks")[name] for name in ("ztf.raw", "ztf.science")],
        [400, sum(map(good, alerts))],
    )
    shown = typed("redpoll ledger", folder, WHERE).out
    report.check(
        "the table has a line for each epoch and their sum",
        sum(f"  night {line['source'][0]['start']}.." in shown for line in lines) == len(lines) and "all epochs" in shown,
    )
    rows = json.loads(
        typed("redpoll sql 'SELECT epoch, fetched, kept FROM redpoll.ledger ORDER BY epoch' --format json", folder, WHERE).out
    )
    report.equal(
        "SELECT … FROM redpoll.ledger has the same",
        rows,
        [{name: line[name] for name in ("epoch", "fetched", "kept")} for line in lines],
    )


def quarantine(report, folder):
    listed = typed("redpoll quarantine list", folder, WHERE)
    report.check(
        "quarantine list shows both, with the reason",
        listed.code == 0 and "cut.avro" in listed.out and "no.avro" in listed.out,
        listed.out.splitlines()[2][:150],
    )
    rows = json.loads(typed("redpoll quarantine list --format json", folder, WHERE).out)
    report.equal("  as JSON", sorted((row["topic"], row["bytes"]) for row in rows), [("cut.avro", 2000), ("no.avro", 17)])
    shown = typed("redpoll quarantine show no.avro --save saved", folder, WHERE)
    report.check(
        "quarantine show prints the first bytes, --save keeps all",
        "<html>503</html>" in shown.out and (folder / "saved").read_bytes() == b"<html>503</html>\n",
    )
    by_place = typed(
        f"redpoll quarantine show 'cut.avro[0]@{next(r['offset'] for r in rows if r['topic'] == 'cut.avro')}' --format json",
        folder,
        WHERE,
    )
    report.check(
        "  a record is found by its place too",
        by_place.code == 0 and json.loads(by_place.out)["items"][0]["bytes"] == 2000,
        by_place.said if by_place.code else "",
    )


def topics(report, folder):
    rows = {row["topic"]: row["files"] for row in json.loads(typed("redpoll topics topics --format json", folder).out)}
    there = {path.name: len(list(path.glob("*.avro"))) for path in (folder / "topics").iterdir()}
    report.check("topics of a folder: files of each", rows == there and len(rows) >= 4, rows)
    table = typed("redpoll topics topics", folder).out
    report.check("  as a table", all(name in table for name in rows))
    servers = lib.kafka(report)
    if not servers:
        return
    with Topics(servers) as made:
        listed = made.new("listed")
        simulate(f"--count 25 --partitions 3 --to kafka://{servers}/{listed}", folder)
        [row] = json.loads(typed(f"redpoll topics kafka://{servers}/{listed} --format json", folder).out)
        found = {part["partition"]: (part["earliest"], part["end"]) for part in row["partitions"]}
        report.equal("topics of Kafka: offsets of each partition", found, topic.offsets(servers, listed))
        every = typed(f"redpoll topics kafka://{servers}", folder)
        line = next((line.split() for line in every.out.splitlines() if line.startswith(listed)), None)
        report.equal("  and in the list of all", line, [listed, "3", "25"])


def sql(report, folder):
    query = "SELECT objectId, candid, candidate.fid AS fid, candidate.rb AS rb, candidate.magpsf < 17 AS bright FROM ztf.raw ORDER BY candid, rb LIMIT 40"
    alerts = sorted(of_folder(folder / "night", "[0-9]*.avro"), key=lambda alert: alert["candid"])[:40]
    wanted = [
        (a["objectId"], a["candid"], a["candidate"]["fid"], a["candidate"]["rb"], a["candidate"]["magpsf"] < 17) for a in alerts
    ]
    ask = lambda form: typed(f'redpoll sql "{query}" --format {form}', folder, WHERE).out
    near = lambda a, b: a == b or isinstance(b, float) and abs(float(a) - b) < 1e-6
    same = lambda rows: len(rows) == 40 and all(near(a, b) for row, want in zip(rows, wanted) for a, b in zip(row, want))
    report.check(
        "sql --format json",
        same([list(row.values()) for row in json.loads(ask("json"))]),
        f"{len(wanted)} rows, as fastavro has them",
    )
    as_csv = list(csv.reader(io.StringIO(ask("csv"))))
    report.equal("sql --format csv: the head", as_csv[0], ["objectId", "candid", "fid", "rb", "bright"])
    read = lambda row: (row[0], int(row[1]), int(row[2]), float(row[3]) if row[3] else None, row[4] == "true")
    report.check("  and the same rows", same([read(row) for row in as_csv[1:]]))
    table = [line.split() for line in ask("table").splitlines()[2:42]]
    report.check(
        "sql --format table: the same rows", [[row[0], int(row[1])] for row in table] == [[want[0], want[1]] for want in wanted]
    )
    piped = typed("echo 'SELECT count(*) AS n FROM ztf.raw' | redpoll sql - --format csv", folder, WHERE)
    report.equal("sql - reads the query from stdin", piped.out.split(), ["n", "400"])
    head = typed("set -o pipefail; redpoll sql 'SELECT * FROM ztf.raw' --format csv | head -1 > /dev/null", folder, WHERE)
    report.equal("sql … | head ends quietly", (head.code, head.err), (0, ""))


def jobs(report, folder):
    listed = typed("redpoll jobs", folder, WHERE)
    row = next((line.split() for line in listed.out.splitlines() if line.startswith("ztf-night")), [])
    report.check("jobs reads the logs where no scheduler runs", row[1:4] and row[1] == "stopped" and row[3] == "400", " ".join(row))
    described = typed("redpoll describe ztf-night", folder, WHERE).out
    report.check(
        "describe: state, alerts, rules and sinks",
        all(word in described for word in ("stopped", "400 decoded", "set aside 2 records", "candidate.nbad = 0", "ztf.raw")),
    )
    missing = typed("redpoll describe ztf-nigth", folder, WHERE)
    report.check(
        "a job that is not there is told with those that are", missing.code == 1 and "ztf-night" in missing.err, missing.err.strip()
    )
    nowhere = typed("redpoll ledger --warehouse archiv", folder)
    report.check(
        "so is a warehouse that is not there", nowhere.code == 1 and "no warehouse at archiv" in nowhere.err, nowhere.err.strip()
    )


def completion(report, folder):
    script = typed("redpoll completion bash > redpoll.bash; bash -n redpoll.bash", folder)
    ask = lambda *words: typed(
        f"""source redpoll.bash; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
        $(complete -p redpoll | sed 's/.*-F \\([^ ]*\\).*/\\1/') redpoll "{words[-1]}" "{words[-2]}"; echo "${{COMPREPLY[@]}}" """,
        folder,
    ).out.split()
    report.check("completion bash loads", script.code == 0 and not script.err, script.said)
    report.equal("  and completes led", ask("redpoll", "led"), ["ledger"])
    report.equal("  and an option of a subcommand", ask("redpoll", "run", "--avail"), ["--available-now"])
    report.equal("  and what an option takes", ask("redpoll", "ledger", "--format", "j"), ["json"])
    for shell, check, start in (("zsh", "zsh -n", "#compdef redpoll"), ("fish", "fish -n", "complete -c redpoll")):
        made = typed(f"redpoll completion {shell} > redpoll.{shell}", folder)
        text = (folder / f"redpoll.{shell}").read_text()
        report.check(
            f"completion {shell} is a script of that shell",
            made.code == 0 and start in text and "ledger" in text,
            f"{len(text)} bytes",
        )
        if shutil.which(shell):
            loads = typed(f"{check} redpoll.{shell}", folder)
            report.check(f"  and {shell} can read it", loads.code == 0, loads.said)
        else:
            report.skip(f"{shell} reads it", f"there is no {shell}")


def exit_codes(report, folder):
    (folder / "wrong.sql").write_text(
        open(NIGHT)
        .read()
        .replace("candidate.nbad", "candidate.nbda")
        .replace("schemas/alert.avsc", f"{os.path.dirname(NIGHT)}/schemas/alert.avsc")
    )
    cases = [
        (0, f"redpoll check {NIGHT} --set source=night --set science=off", "is right"),
        (1, "redpoll check wrong.sql --set source=night --set science=off", "nbda"),
        (1, "redpoll run wrong.sql --set source=night --set science=off --available-now", "nothing was run"),
        (1, "redpoll sql 'SELECT nonsense FROM ztf.raw' --warehouse archive", "nonsense"),
        (1, "redpoll jobs --scheduler http://127.0.0.1:9", "no scheduler answers"),
        (1, "redpoll quarantine show nothing.avro --warehouse archive", "quarantine list"),
        (2, "redpoll run", "<FILE>"),
        (2, "redpoll run nothing.sql", "nothing.sql"),
        (2, f"redpoll run {NIGHT} --available-now --until +1h", "--until"),
        (1, "redpoll stop ztf-night --warehouse archive", "ztf-night"),
        (2, "redpoll simulate --to s3://bucket/x", "kafka://"),
        (2, "redpoll ledgre", "ledger"),
    ]
    for code, line, says in cases:
        done = typed(line, folder)
        report.check(
            f"exit code {code}: {line.replace(NIGHT, 'night.sql')}",
            done.code == code and says in done.out + done.err,
            done.said if done.code != code else says,
        )
    told = typed("redpoll --help", folder).out
    report.check("the codes are told by --help", "0 fine, 1 failed, 2 wrong use, 130" in told)


def environment(report, folder):
    """Options by their variables alone."""
    done = typed(
        "redpoll simulate",
        folder,
        {"REDPOLL_TO": "by-env", "REDPOLL_COUNT": "7", "REDPOLL_SURVEY": "lsst", "REDPOLL_FORMAT": "json"},
    )
    report.check(
        "REDPOLL_TO, _COUNT, _SURVEY, _FORMAT of simulate",
        done.code == 0 and json.loads(done.out)["alerts"] == 7 and len(of_folder(folder / "by-env")) == 7,
    )
    variables = {
        **WHERE,
        "REDPOLL_SET": "source=night\nscience=off",
        "REDPOLL_AVAILABLE_NOW": "true",
        "REDPOLL_NAME": "by-env",
        "REDPOLL_FORMAT": "json",
    }
    done = typed(f"redpoll run {NIGHT}", folder, variables)
    report.check(
        "REDPOLL_SET (two lines), _AVAILABLE_NOW, _NAME, _WAREHOUSE of run",
        done.code == 0 and json.loads(done.out)["job"] == "by-env",
        done.said if done.code else "",
    )
    done = typed("redpoll ledger", folder, {**WHERE, "REDPOLL_JOB": "by-env", "REDPOLL_FORMAT": "json"})
    report.equal("REDPOLL_JOB of ledger", {line["job"] for line in json.loads(done.out)}, {"by-env"})
    done = typed("redpoll ledger", folder, {**WHERE, "REDPOLL_FORMAT": "yaml"})
    report.check(
        "a variable that cannot be meant is wrong use, and named", done.code == 2 and "yaml" in done.err, done.err.splitlines()[0]
    )
    done = typed("redpoll sql 'SELECT 1 AS one' --log-level redpoll=debug", folder, {**WHERE, "REDPOLL_LOG": "json"})
    lines = [json.loads(line) for line in done.err.splitlines()]
    report.check(
        "REDPOLL_LOG=json: each line on stderr parses", lines and all("level" in line for line in lines), f"{len(lines)} lines"
    )


# Of an example the command: up to a pipe, a redirection or a comment, which may stand within quotes.
CALL = re.compile(r"""(?:'[^']*'|"[^"]*"|(?! [|<>] |   ).)*""")


def help_texts(report, folder):
    """Every command of the help, and every example in it."""
    wrong, n = [], 0

    def visit(command):
        nonlocal n
        text = typed(f"redpoll {command} --help", folder).out
        for line in examples(text.split("Examples:")[-1]):
            n += 1
            call = CALL.match(line).group()
            done = typed(f"{call} --help", folder)
            if done.code:
                wrong.append((line, done.said))
        if "\nCommands:\n" in text:
            for entry in text.split("\nCommands:\n")[1].split("\n\n")[0].splitlines():
                if entry.split()[0] != "help":
                    visit(f"{command} {entry.split()[0]}".strip())

    visit("")
    report.check(f"{n} examples of the help texts are taken by the program", n > 40 and not wrong, wrong[:3])
    narrow = on_terminal("redpoll jobs --help", folder, size=(40, 72))
    lines = plain(narrow.out).splitlines()
    report.check(
        "help fits a narrow terminal",
        all(len(line.rstrip()) <= 72 for line in lines if not line.startswith("  redpoll")),
        max(map(len, lines)),
    )


def asking(report):
    folder = lib.scratch("gate4-asking")
    the_night(report, folder)
    for proof in (ledger, quarantine, topics, sql, jobs, completion, exit_codes, environment, help_texts):
        proof(report, folder)
