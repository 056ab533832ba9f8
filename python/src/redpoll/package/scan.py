"""All science modules of a package: which run, and why the others do not."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from redpoll.package.reach import Reach
from redpoll.package.source import Found, Source, found_in, locate, module_files

# Parts of a module's path that say whose alerts it reads.
SURVEYS = {"ztf": "ztf", "rubin": "lsst", "lsst": "lsst"}
N_AT_ONCE = 2


@dataclass
class Entry:
    """A function of a package, or a module that has none."""

    module: str
    function: str = None
    survey: str = None
    # "runs" (on sample alerts), "loads" (but was not tried) or "no".
    state: str = "no"
    reason: str = ""
    kind: str = None
    inputs: list = dataclasses.field(default_factory=list)
    returns: str = None
    about: str = ""
    seconds: float = None

    def to_json(self):
        return dataclasses.asdict(self)


def scan(package, survey=None, samples=None, timeout=120.0):
    """An entry for each function that may be a science module, in order of modules and lines.

    Parameters
    ----------
    package: str
        Name as it is imported; dashes of the distribution's name are taken for underscores.
    survey: str, optional
        ``ztf`` or ``lsst``: functions of the other are left out.
    samples: Path, optional
        Folder with ``ztf.parquet`` and ``lsst.parquet``.
    timeout: float
        Longest time for one function [s].
    """
    package = package.replace("-", "_")
    if locate(package) is None:
        raise SystemExit(f"there is no Python package `{package}` in this environment")
    reach, jobs = Reach(package), []
    for name, path in module_files(package):
        of = _survey(name)
        if not survey or of in (None, survey):
            jobs.append((name, path, of or survey))
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        found = pool.map(lambda job: _module(*job, reach, samples, timeout), jobs)
        entries = [entry for entries in found for entry in entries]
    # Where the environment is on this machine says nothing.
    here = f"{locate(package).parent}{os.sep}"
    return [dataclasses.replace(entry, reason=entry.reason.replace(here, "")) for entry in entries]


def _survey(module):
    return next((SURVEYS[part] for part in module.split(".") if part in SURVEYS), None)


def _module(name, path, survey, reach, samples, timeout):
    try:
        found = found_in(Source(name, path))
    except SyntaxError as error:
        found = []
        if path.stem in ("processor", "filter"):
            return [Entry(name, survey=survey, reason=f"its source cannot be read: {error}")]
    entries = [Entry(name, one.function, survey, reason=_static(one, reach)) for one in found]
    wanted = [entry.function for entry in entries if not entry.reason]
    plain = [one.function for one in found if one.how == "plain"]
    sample = samples.joinpath(f"{survey}.parquet") if samples and survey else None
    answers = _look(name, wanted, plain, sample if sample and sample.is_file() else None, timeout)
    for entry in entries:
        if not entry.reason:
            _take(entry, answers[entry.function])
    return entries


def _static(found: Found, reach):
    """Why a function cannot be used, as far as its source tells."""
    if found.how == "none":
        return "it has no function of columns: it works on whole Spark DataFrames; write it in SQL"
    if found.how == "inner":
        return "it is made inside of a function that works on Spark DataFrames"
    effects = reach.effects(found.module, found.function)
    return str(effects[0]) if effects else ""


def _take(entry, answer):
    if answer.get("reason"):
        entry.reason = answer["reason"]
        return
    for key in ("kind", "inputs", "returns", "about", "seconds"):
        setattr(entry, key, answer.get(key))
    entry.state = "loads" if "untried" in answer else "runs"
    entry.reason = answer.get("untried", "")
    if answer.get("failed"):
        entry.reason = f"it fails on {answer['failed']} of {answer['rows']} sample alerts: {answer['failure']}"


def _look(module, functions, plain, sample, timeout):
    """What ``look`` says of functions; a function that ends its process costs only itself."""
    answers, left = {}, list(functions)
    with tempfile.TemporaryDirectory() as folder:
        while left:
            file = Path(folder, f"{len(left)}.jsonl")
            request = {"module": module, "functions": left, "plain": plain, "answers": str(file)}
            request["sample"] = str(sample.resolve()) if sample else None
            ended = _run(request, timeout * len(left), folder)
            lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
            answers.update({line["function"]: line for line in lines if "function" in line})
            left = [name for name in left if name not in answers]
            # What ends the import ends it for all; what ends a call, for that function.
            guilty = left[:1] if lines else left
            answers.update({name: {"reason": ended or "its process ended without an answer"} for name in guilty})
            left = left[len(guilty) :]
    return answers


def _run(request, timeout, folder):
    """Starts a process that looks; gives the reason if it did not end by itself and well."""
    command = [sys.executable, "-m", "redpoll.package", "look", json.dumps(request)]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"}, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            return f"it does not come back within {timeout:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if code < 0:
        return f"it crashes Python: {signal.Signals(-code).name}"
    return f"it ends Python with exit code {code}" if code else None
