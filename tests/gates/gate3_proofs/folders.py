"""Alerts in folders: spoilt files, and a folder that fills while a job watches it."""

import base64
import json
import subprocess
import time

from gate import ENVIRONMENT, REDPOLL, ROOT, archive, match, redpoll, run, settings, sql
from values import key, plain, read


def simulate(folder, to, count, *arguments):
    made = redpoll(folder, "simulate", "--to", to, "--count", count, *arguments)
    assert made.code == 0, made.text
    return sorted(to.glob("*.avro"))


def truncated(data):
    return data[: len(data) * 3 // 5]


def not_avro(data):
    return b"<html><body>503 Service Unavailable</body></html>\n"


def flipped(data):
    """The first 40 bytes after the header, inverted: the size of the block and the first fields."""
    marker = data[-16:]
    start = data.index(marker) + 16
    return data[:start] + bytes(byte ^ 0xFF for byte in data[start : start + 40]) + data[start + 40 :]


def spoilt(gate, folder):
    """Three spoilt files are set aside with their bytes and a reason; the rest is untouched."""
    source = folder / "night"
    files = simulate(folder, source, 20)
    bad = dict(zip(files[3::5], (truncated, not_avro, flipped)))
    for path, spoil in bad.items():
        path.write_bytes(spoil(path.read_bytes()))
    ended = redpoll(folder, "run", ROOT / "pipelines/ztf/night.sql", *settings({"source": source, "science": "off"}),
                    "--available-now")
    gate.equal("exit code", ended.code, 0)
    gate.check("a visible warning", "3 records did not decode" in ended.out, ended.text)

    listed = json.loads(redpoll(folder, "quarantine", "list", "--format", "json").out)
    gate.equal("quarantine list", sorted(row["topic"] for row in listed), sorted(path.name for path in bad))
    for path, spoil in bad.items():
        saved = folder / "saved"
        shown = redpoll(folder, "quarantine", "show", path.name, "--save", saved)
        whole = saved.exists() and saved.read_bytes() == path.read_bytes()
        gate.check(f"quarantine show: the bytes of the {spoil.__name__} file", shown.code == 0 and whole, shown.text)
        reason = next((row["error"] for row in listed if row["topic"] == path.name), "")
        gate.check(f"  and its reason: {reason}", len(reason) > 10)
    asked = sql(folder, "SELECT topic, error, encode(value, 'base64') AS bytes FROM redpoll.quarantine ORDER BY topic")
    decoded = {row["topic"]: base64.b64decode(row["bytes"] + "==") for row in asked}
    gate.check("SELECT … FROM redpoll.quarantine has them", decoded == {p.name: p.read_bytes() for p in bad}, decoded.keys())

    good = [alert for path in files if path not in bad for alert in read(path)]
    found = match(good, plain(archive(folder, "ztf/raw")), key)
    gate.check(f"the other {len(good)} alerts, every field", found is None, found)


def watched(gate, folder):
    """A folder is a stream: files that appear while the job runs are each taken once, until --until."""
    files = simulate(folder, folder / "made", 24)
    source = folder / "night"
    source.mkdir()
    night = ROOT / "pipelines/ztf/night.sql"
    until = (*settings({"source": source, "science": "off"}), "--until", "+12s", "--format", "json")
    command = [REDPOLL, "run", night, *until]
    job = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun = time.monotonic()
    for i, path in enumerate(files):
        hidden = source / f".{path.name}"
        hidden.write_bytes(path.read_bytes())
        # Half of them in pairs, in one instant.
        if i % 4 != 1:
            time.sleep(0.3)
        hidden.rename(source / path.name)
    out, err = job.communicate(timeout=60)
    gate.check("exit code 0", job.returncode == 0, err)
    gate.check(f"it ended at its time: after {time.monotonic() - begun:.1f} s", time.monotonic() - begun < 25, err)
    summary = json.loads(out)
    gate.check(f"over {summary['epochs']} epochs", summary["epochs"] > 3, summary)
    found = match([alert for path in files for alert in read(path)], plain(archive(folder, "ztf/raw")), key)
    gate.check(f"{len(files)} files, each once, every field", found is None, found)
    again = json.loads(run(folder, night, "--format", "json", source=source, science="off").out)
    gate.equal("run again over the same folder: alerts", again["decoded"], 0)


PROOFS = [spoilt, watched]
