"""The table of all runs, to which each adds its line, and the summary made of it."""
import collections
import csv
import pathlib
import statistics
import subprocess
import sys

import lib
import plan as plans

COLUMNS = ["commit", "seed", "point", "place", "signal", "victim", "storage", "delivery", "fired", "lost", "doubled", "balanced",
           "audit", "recovered", "load", "took", "verdict"]
PAGE = lib.REPOSITORY / "docs" / "operating" / "faults.md"
BEGIN, END = "<!-- made by tests/chaos: begin -->", "<!-- made by tests/chaos: end -->"


def commit():
    """The commit that was run, with a plus if files differ from it."""
    git = lambda *words: subprocess.run(["git", "-C", lib.REPOSITORY, *words], capture_output=True, text=True).stdout.strip()  # noqa: E731
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs", ":!tests/chaos/*.tsv")
    return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def read(path):
    if not pathlib.Path(path).exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def append(path, row):
    path = pathlib.Path(path)
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def next_seed(rows):
    return max((int(row["seed"]) for row in rows), default=-1) + 1


def seconds(rows):
    return [float(row["recovered"]) for row in rows if row["recovered"]]


def line(name, rows):
    """Runs, what they found, and the time to recover by whom it was that was struck."""
    cells = [name, str(len(rows)), *(str(sum(int(row[what] or 0) for row in rows)) for what in ("lost", "doubled"))]
    cells.append(str(sum(row["verdict"] != "ok" for row in rows)))
    for victims in (["executor"], ["scheduler"], plans.OF_NETWORKS):
        found = seconds(row for row in rows if row["victim"] in victims)
        cells.append(f"{statistics.median(found):.1f} / {max(found):.1f} ({len(found)})" if found else "")
    return f"| {' | '.join(cells)} |"


def summary(rows):
    """Markdown: a line for each point and each of its places, and one for each way to strike."""
    head = ["| {} | runs | lost | doubled | failed | executor | scheduler | network |", "|---|---|---|---|---|---|---|---|"]
    text = [head[0].format("point, place"), head[1]]
    for point, (_, places) in plans.POINTS.items():
        of_point = [row for row in rows if row["point"] == point]
        text.append(line(f"**{point}**", of_point))
        if len(places) > 1:
            text += [line(f"`{place}`", [row for row in of_point if row["place"] == place]) for place in places]
        else:
            text[-1] = line(f"**{point}**, `{places[0]}`", of_point)
    text += [line("all", rows), "", head[0].format("struck"), head[1]]
    by_strike = collections.defaultdict(list)
    for row in rows:
        by_strike[f"{row['victim']}, {row['signal']}"].append(row)
    text += [line(name, by_strike[name]) for name in sorted(by_strike)]
    audits = collections.Counter(row["audit"] for row in rows)
    fired = sum(row["fired"] == "yes" for row in rows)
    balanced = sum(row["balanced"] == "yes" for row in rows)
    text += ["", f"{len(rows)} runs, {len({row['seed'] for row in rows})} seeds: in {fired} the fault was seen to fire, in {balanced} the "
                 f"ledger balances, audit: {', '.join(f'{n} {what}' for what, n in audits.most_common())}; "
                 f"{sum(row['storage'] == 's3' for row in rows)} on S3, {sum(row['delivery'] == 'at-least-once' for row in rows)} "
                 "with topics at-least-once."]
    return "\n".join(text)


def publish(path, page=PAGE):
    """Puts the summary of a table into the page."""
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{page} lacks the lines '{BEGIN}' and '{END}'")
    page.write_text(f"{before}{BEGIN}\n\n{summary(read(path))}\n\n{END}{after}")
