import os
import signal
import subprocess
import sys

import pytest
from conftest import declaration
from processes import SOURCE, Parent

INPUTS = [("x", "int")]


def module(directory, code, kind="pandas", name="written"):
    directory.joinpath(f"{name}.py").write_text(code)
    return declaration(directory, INPUTS, "int", kind, function=f"{name}:it", name=name)


def started(parent, code, kind="pandas", **limits):
    """A worker of a module with this code."""
    written = module(parent.directory, code, kind)
    told = parent.load(written)
    assert told["ok"] and told["imported"]
    return parent.fork(written, **limits)


def test_a_parent_says_what_it_is(parent):
    assert parent.hello["pid"] == parent.child.pid
    assert set(parent.hello["versions"]) == {"python", "pyarrow", "redpoll"}


def test_values_and_failures_come_back_over_the_socket(parent):
    worker = started(parent, "def it(x):\n    if (x == 2).any(): raise KeyError('two')\n    return x + 1\n")
    header, values = worker.evaluate([1, 2, 3])
    assert values == [2, None, 4]
    assert header["failures"] == [[1, "KeyError: 'two'"]]
    assert header["resident_kib"] > 1024


def test_what_modules_print_goes_to_their_own_log(parent):
    code = "import os, sys\nprint('imported')\ndef it(x):\n    print('noise' * 10000)\n    os.write(1, b'raw\\n')\n    sys.stderr.write('more\\n')\n    return x\n"
    worker = started(parent, code)
    assert worker.evaluate([1, 2])[1] == [1, 2]
    worker.end(0)
    assert worker.printed.all() == ["\x1ewritten", "noise" * 10000, "raw", "more"]
    parent.close()
    assert parent.printed.all() == ["\x1ewritten", "imported"]


def test_a_module_that_cannot_load_leaves_the_parent_usable(parent, tmp_path):
    refused = parent.load(module(tmp_path, "import nothing_of_that_name\n"))
    assert not refused["ok"]
    assert "nothing_of_that_name" in refused["error"]
    assert started(parent, "def it(x):\n    return x\n").evaluate([1])[1] == [1]


def test_an_import_that_kills_its_process_leaves_the_parent_usable(parent, tmp_path):
    refused = parent.load(module(tmp_path, "import os\nos.abort()\n"))
    assert refused["error"] == "importing `written` killed its process with signal 6"
    refused = parent.load(module(tmp_path, "import os\nos._exit(3)\n"))
    assert refused["error"] == "importing `written` ended its process with exit code 3"
    assert started(parent, "def it(x):\n    return x\n").evaluate([1])[1] == [1]


def test_an_import_that_takes_too_long_is_given_up(parent, tmp_path):
    slow = module(tmp_path, "import time\ntime.sleep(600)\n")
    refused = parent.ask("load", key="slow", module=slow, seconds=0.3)
    assert refused["error"] == "importing `written` was killed, or took longer than 0.3 s"


def test_a_module_is_imported_once_for_all_its_workers(parent, tmp_path):
    code = "import os\nloaded = os.getpid()\ndef it(x):\n    return x * 0 + loaded\n"
    workers = [started(parent, code), parent.fork(module(tmp_path, code))]
    assert [worker.evaluate([1])[1] for worker in workers] == 2 * [[parent.child.pid]]


@pytest.mark.parametrize("kind", ["row", "pandas"])
def test_a_new_worker_has_nothing_left_to_import(parent, kind):
    worker = started(parent, "import sys\ndef it(x):\n    return x * 0 + len(sys.modules)\n", kind)
    assert worker.evaluate([1])[1] == worker.evaluate([1])[1]


def test_a_module_that_starts_threads_is_imported_by_its_workers(parent, tmp_path):
    code = "import os, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\nloaded = os.getpid()\ndef it(x):\n    return x * 0 + loaded\n"
    written = module(tmp_path, code)
    assert parent.load(written)["imported"] is False
    worker = parent.fork(written)
    assert worker.evaluate([1])[1] == [worker.pid]
    assert len(os.listdir(f"/proc/{parent.child.pid}/task")) == 1


def test_two_modules_of_one_name_are_kept_apart_by_their_key(parent, tmp_path):
    for number in (1, 2):
        written = module(tmp_path, f"def it(x):\n    return x + {number}\n")
        assert parent.ask("load", key=f"written-{number}", module=written, seconds=30)["ok"]
    for number in (1, 2, 1):
        written["name"] = f"written-{number}"
        assert parent.fork(written).evaluate([0])[1] == [number]


def test_how_a_worker_ended_is_told(parent, tmp_path):
    code = "import os, signal\ndef it(x):\n    if x < 100: os.kill(os.getpid(), x)\n    os._exit(x - 100)\n"
    written = module(tmp_path, code, "row")
    assert parent.load(written)["ok"]
    for given, told in [(11, {"signal": 11}), (9, {"signal": 9}), (107, {"code": 7})]:
        worker = parent.fork(written)
        assert worker.evaluate([given]) is None
        ended = worker.end()
        assert ended.pop("peak_kib") > 1024
        assert {name: ended[name] for name in ("signal", "code") if name in ended} == told


def test_another_worker_is_there_within_milliseconds(parent, tmp_path):
    written = module(tmp_path, "import pandas\ndef it(x):\n    return x\n")
    assert parent.load(written)["ok"]
    took = []
    for _ in range(5):
        worker = parent.fork(written)
        took.append(worker.told["micros"])
        worker.end(0)
    # Importing takes half a second and more.
    assert min(took) < 100_000


def test_a_parent_ends_when_its_socket_closes(parent):
    parent.connection.close()
    assert parent.child.wait(30) == 0


def test_a_parent_with_another_parent_does_not_start(tmp_path):
    command = [sys.executable, "-m", "redpoll.worker", "--socket", str(tmp_path / "none"), "--parent", "1"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    assert subprocess.run(command, env=environment, timeout=30).returncode == 1


def test_all_die_with_a_killed_executor(tmp_path):
    # A process in between starts them and is killed.
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from processes import Parent; from test_worker import started\n"
        "parent = Parent(Path(sys.argv[2]), '--parent', str(os.getpid()))\n"
        "worker = started(parent, open(sys.argv[2] + '/code').read())\n"
        "print(parent.child.pid, worker.pid, worker.evaluate([0])[1][0], flush=True); parent.child.wait()\n"
    )
    tmp_path.joinpath("code").write_text(STRAY)
    here = os.path.dirname(os.path.abspath(__file__))
    executor = subprocess.Popen(
        [sys.executable, "-c", script, here, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    pids = [int(word) for word in executor.stdout.readline().split()]
    descriptors = [os.pidfd_open(pid) for pid in pids]
    executor.send_signal(signal.SIGKILL)
    executor.wait(30)
    assert len(descriptors) == 3
    for pid, descriptor in zip(pids, descriptors):
        assert ended(descriptor), f"{pid} is still there"


# Starts a process in a session of its own, whose parent ends at once.
STRAY = """
import os, subprocess
def it(x):
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        os.write(write, str(child.pid).encode())
        os._exit(0)
    os.wait()
    return x + int(os.read(read, 20))
"""


def ended(descriptor):
    import select

    return bool(select.select([descriptor], [], [], 30)[0])


def test_what_a_worker_started_ends_with_it(parent):
    worker = started(parent, STRAY)
    stray = os.pidfd_open(worker.evaluate([0])[1][0])
    worker.end(0)
    assert ended(stray)


def test_a_worker_dies_with_its_parent(parent):
    worker = started(parent, "def it(x):\n    return x\n")
    descriptor = os.pidfd_open(worker.pid)
    parent.child.kill()
    assert ended(descriptor)


def test_a_child_that_returns_from_the_module_answers_nothing(parent):
    worker = started(parent, "import os\ndef it(x):\n    return x + (0 if os.fork() else 100)\n")
    assert [worker.evaluate([n])[1] for n in range(3)] == [[0], [1], [2]]


def test_a_module_beyond_the_memory_limit_fails_its_row(parent):
    code = "import numpy as np\ndef it(x):\n    if x == 1: np.ones(1 << 29)\n    return x\n"
    worker = started(parent, code, "row", memory_limit_mb=2048)
    header, values = worker.evaluate([0, 1, 2])
    assert values == [0, None, 2]
    assert "MemoryError" in header["failures"][0][1]


def test_a_call_beyond_its_processor_time_ends_the_worker(parent, tmp_path):
    written = module(tmp_path, "def it(x):\n    while x == 1: pass\n    return x\n", "row")
    assert parent.load(written)["ok"]
    worker = parent.fork(written, cpu_limit_s=1)
    assert worker.evaluate([0])[1] == [0]
    assert worker.evaluate([1]) is None
    assert worker.end()["signal"] == signal.SIGXCPU


OPENS = "import socket\ndef it(x):\n    {}\n    return x\n"


def test_a_module_that_opens_a_socket_is_refused_by_name(parent):
    worker = started(parent, OPENS.format("socket.create_connection(('127.0.0.1', 9))"))
    header, values = worker.evaluate([1])
    assert values == [None]
    assert header["failures"][0][1].startswith("PermissionError: module written may not use the network: write `network = true`")


def test_no_other_way_leads_to_the_network(parent):
    if parent.hello["network"]:
        pytest.skip(parent.hello["network"])
    code = OPENS.format("import _socket; _socket.socket(2, 1).connect(('127.0.0.1', 9))")
    header, _ = started(parent, code).evaluate([1])
    assert "Network is unreachable" in header["failures"][0][1]


def test_a_module_that_may_use_the_network_can(tmp_path):
    parent = Parent(tmp_path, "--network")
    worker = started(parent, OPENS.format("socket.socket().bind(('127.0.0.1', 0))"))
    assert worker.evaluate([1])[1] == [1]
    parent.close()


def test_modules_may_talk_among_their_own_processes(parent):
    code = "import multiprocessing.pool, socket\ndef it(x):\n    a, b = socket.socketpair(); a.send(b'1'); b.recv(1)\n    with multiprocessing.Pool(1) as pool: pool.map(abs, [1])\n    return x\n"
    assert started(parent, code).evaluate([1])[1] == [1]
