"""What the gates share: a report that counts, processes that do not outlive the gate, and a job's log as it grows.

A gate starts `redpoll` roles as processes of their own, waits for conditions (never for a time alone), does them harm, and
reads what is left: the log, the receipts and the ledger of the warehouse, and the topics.
"""
import atexit
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
REDPOLL = os.environ.get("REDPOLL") or str(pathlib.Path.home() / ".cache/redpoll/target/debug/redpoll")
SAMPLES = pathlib.Path(os.environ.get("REDPOLL_SAMPLES") or REPOSITORY.parent / "shared" / "data")
PYTHON = pathlib.Path(os.environ.get("PYTHON") or pathlib.Path.home() / ".cache/redpoll/venv/bin/python")
CACHE = pathlib.Path(os.environ.get("REDPOLL_GATE_CACHE") or pathlib.Path.home() / ".cache/redpoll/gates")


class Report:
    """Prints each proof on a line; `close` prints the sum and ends the process."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.begun = time.monotonic()

    def section(self, title):
        print(f"\n== {title}", flush=True)

    def note(self, text):
        print(f"       {text}", flush=True)

    def check(self, what, holds, detail=""):
        """Counts a claim; `detail` is the evidence, printed either way."""
        self.passed += bool(holds)
        self.failed += not holds
        print(f"{'ok    ' if holds else 'FAILED'} {what}{f': {detail}' if detail != '' else ''}", flush=True)
        return bool(holds)

    def equal(self, what, found, wanted):
        same = found == wanted
        return self.check(what, same, short(found) if same else f"found {short(found)}, wanted {short(wanted)}")

    def skip(self, what, why):
        self.skipped += 1
        print(f"SKIPPED {what}: {why}", flush=True)

    def close(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        took = time.monotonic() - self.begun
        print(f"\n{took:.0f} s\n{self.passed} passed, {self.failed} failed{skipped}", flush=True)
        sys.exit(1 if self.failed else 0)


def short(value, width=200):
    text = str(value)
    return text if len(text) <= width else f"{text[:width]}… ({len(value) if hasattr(value, '__len__') else len(text)} in all)"


class TimedOut(Exception):
    """A condition did not come true in time."""


def wait_for(what, condition, seconds, pause=0.05):
    """The first true value of `condition()`, asked again and again for at most `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimedOut(f"{what}: not within {seconds} s")
        time.sleep(pause)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def text(url, timeout=5):
    """What a URL of this machine answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout) as answer:
        return answer.read().decode()


def get(url, timeout=5):
    """The JSON at a URL of this machine, or None if nothing answers well."""
    try:
        return json.loads(text(url, timeout))
    except (OSError, ValueError):
        return None


class Process:
    """A child with its own log file, in a process group of its own; killed at the end of the gate if it still runs.

    `log` has what it writes to stdout and stderr; with `apart`, stderr goes to `errors`.
    """

    all = []

    def __init__(self, name, arguments, folder, env=None, cwd=REPOSITORY, apart=False):
        self.name = name
        self.log = pathlib.Path(folder) / f"{name}.log"
        self.errors = self.log.with_suffix(".err") if apart else self.log
        with open(self.log, "ab") as log, open(self.errors, "ab") as errors:
            self.child = subprocess.Popen(
                [str(argument) for argument in arguments], stdout=log, stderr=errors, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True)
        Process.all.append(self)

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def is_frozen(self):
        text = pathlib.Path(f"/proc/{self.pid}/stat").read_text()
        return text.rpartition(")")[2].split()[0] == "T"

    def peak_mib(self):
        """Largest resident memory so far, without children."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def kill(self):
        """SIGKILL to this process alone, as a machine that dies does; its children must notice by themselves."""
        self.child.kill()
        self.child.wait()

    def terminate(self):
        self.child.terminate()

    def wait(self, seconds):
        """Exit code, or None if it still runs."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def tail(self, lines=15):
        text = self.errors.read_text(errors="replace").splitlines()
        return "\n".join(f"       | {line}" for line in text[-lines:])


def end_all():
    """Ends whatever the gate started and still runs, with what that started."""
    for process in reversed(Process.all):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.child.wait()
    Process.all.clear()


def _interrupted(number, _frame):
    sys.exit(128 + number)


atexit.register(end_all)
signal.signal(signal.SIGTERM, _interrupted)
signal.signal(signal.SIGINT, _interrupted)


def scratch(name):
    """A new folder, removed at the end unless REDPOLL_GATE_KEEP is set."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"redpoll-{name}-"))
    if os.environ.get("REDPOLL_GATE_KEEP"):
        print(f"       files stay in {folder}")
    else:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # Run before the folder goes: exit functions run in reverse order.
        atexit.register(end_all)
    return folder


class Cluster:
    """A scheduler and executors as processes, over one warehouse and on ports that stay the same over restarts.

    With `apart`, what they write to stderr goes to files of its own. `options` and `env` are those of all roles. The scheduler
    works in `folder`, where it keeps the store of a warehouse on S3.
    """

    apart = False

    def __init__(self, folder, n_executors=2, vcores=2, options=(), warehouse=None, scheduler_options=(), env=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.warehouse = warehouse or self.folder / "warehouse"
        self.vcores, self.n_executors, self.options = vcores, n_executors, list(options)
        self.scheduler_options, self.env = list(scheduler_options), dict(env or {})
        self.port = free_port()
        self.scheduler, self.executors, self.n_started = None, [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self, env=None):
        """`env` is the scheduler's, beside this process's own."""
        self.start_scheduler(env)
        self.executors = [self.start_executor() for _ in range(self.n_executors)]
        self.wait_ready()

    def start_scheduler(self, env=None):
        self.scheduler = Process(
            "scheduler",
            [REDPOLL, "scheduler", "--warehouse", self.warehouse, "--bind", f"127.0.0.1:{self.port}",
             "--advertise-host", "127.0.0.1", *self.options, *self.scheduler_options], self.folder,
            {**self.env, **(env or {})}, self.folder, self.apart)

    def start_executor(self, env=None):
        self.n_started += 1
        name = f"executor-{self.n_started}"
        return Process(
            name,
            [REDPOLL, "executor", "--scheduler", self.url, "--vcores", self.vcores, "--work-dir", self.folder / name,
             *self.options], self.folder, {**self.env, **(env or {})}, apart=self.apart)

    def wait_ready(self, seconds=60):
        def ready():
            for process in [self.scheduler, *self.executors]:
                if not process.running():
                    raise TimedOut(f"{process.name} ended with {process.child.returncode}\n{process.tail()}")
            return len(get(f"{self.url}/v1/executors") or []) >= len(self.executors)
        wait_for(f"{len(self.executors)} executors at the scheduler", ready, seconds)

    def stop(self, seconds=60):
        """SIGTERM to all, executors first as they need the scheduler to say goodbye. Seconds each took, None: still there."""
        took = {}
        for process in [*self.executors, self.scheduler]:
            if process.running():
                begun = time.monotonic()
                process.terminate()
                code = process.wait(seconds)
                took[process.name] = None if code is None else round(time.monotonic() - begun, 1)
        return took

    def job(self, name):
        return Job(self, name)


class Job:
    """A job as its warehouse shows it."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.root = cluster.warehouse / "_redpoll" / "jobs" / name
        self._entries = {}

    def entries(self):
        """The log, each entry with its kind as `entry`. They are written once and never change."""
        for path in sorted((self.root / "log").glob("[0-9]*.json")) if self.root.exists() else []:
            if path.name not in self._entries:
                try:
                    [(kind, content)] = json.loads(path.read_text()).items()
                    self._entries[path.name] = {"entry": kind, **content}
                except (OSError, ValueError):
                    break  # being written
        return [self._entries[name] for name in sorted(self._entries)]

    def of(self, kind):
        return [entry for entry in self.entries() if entry["entry"] == kind]

    def open_epoch(self):
        """The intent that is not prepared, if there is one."""
        prepared = {entry["epoch"] for entry in self.of("prepared")}
        intents = [entry for entry in self.of("intent") if entry["epoch"] not in prepared]
        return intents[-1] if intents else None

    def receipts(self, epoch=None):
        """[(time of the file, receipt)] in order of time."""
        folder = "*" if epoch is None else f"{epoch:012}"
        found = []
        for path in self.root.glob(f"epochs/{folder}/receipts/*.json"):
            try:
                found.append((path.stat().st_mtime, json.loads(path.read_text())))
            except (OSError, ValueError):
                continue  # being written
        return sorted(found, key=lambda pair: pair[0])

    def stopped(self):
        entries = self.entries()
        return bool(entries) and entries[-1]["entry"] == "stopped"

    def status(self):
        return get(f"{self.cluster.url}/v1/jobs/{self.name}") or {}

    def wait_stopped(self, seconds):
        def ended():
            if self.status().get("state") == "failed":
                raise TimedOut(f"job {self.name} failed: {self.status().get('reason')}")
            return self.stopped()
        wait_for(f"end of job {self.name}", ended, seconds, pause=0.2)


def redpoll(*arguments, timeout=300, env=None):
    """Runs `redpoll` to its end; its output is captured as text."""
    return subprocess.run([REDPOLL, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, cwd=REPOSITORY,
                          env={**os.environ, **(env or {})})


def redpoll_json(*arguments, timeout=300):
    done = redpoll(*arguments, "--format", "json", timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"redpoll {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def run_parts(parts):
    """The parts of a gate that the command line names, all of them if it names none; where one breaks the others still run."""
    report = Report()
    chosen = sys.argv[1:] or list(parts)
    unknown = [name for name in chosen if name not in parts]
    if unknown:
        sys.exit(f"no part {unknown}: there are {list(parts)}")
    for name in chosen:
        report.section(name)
        try:
            parts[name](report)
        except Exception as error:
            report.check(f"{name} comes to its end", False, f"{type(error).__name__}: {error}")
        end_all()
    report.close()


def in_test_venv():
    """Goes on in the Python that has the test packages, if this one lacks them."""
    try:
        import confluent_kafka, fastavro, pyarrow, xxhash  # noqa: F401, E401
    except ImportError as missing:
        if PYTHON.resolve() == pathlib.Path(sys.executable).resolve() and sys.prefix != sys.base_prefix or not PYTHON.exists():
            sys.exit(f"{missing}: run `make setup`")
        os.execv(PYTHON, [str(PYTHON), *sys.argv])


def kafka(report):
    """Bootstrap servers of KAFKA_BOOTSTRAP or of tests/services, started if it does not run. None where there is no Kafka."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        return given
    started = subprocess.run([REPOSITORY / "tests/services/kafka.sh", "start"], capture_output=True, text=True)
    if started.returncode != 0:
        report.skip("everything", f"there is no Kafka: {started.stderr.strip().splitlines()[-1:]}")
        return None
    return started.stdout.strip()
