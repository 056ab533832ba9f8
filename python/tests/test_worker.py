import os
import signal
import subprocess
import sys

from conftest import Process, declaration

INPUTS = [("x", "int")]


def load(worker, directory, code, kind="pandas"):
    directory.joinpath("written.py").write_text(code)
    declared = declaration(directory, INPUTS, "int", kind)
    header, _ = worker.ask({"call": "load", "module": declared})
    return header


def test_a_worker_says_what_it_is(worker):
    assert worker.hello["pid"] == worker.child.pid
    assert set(worker.hello["versions"]) == {"python", "pyarrow", "redpoll"}


def test_values_and_failures_come_back_over_the_socket(worker, tmp_path):
    code = "def it(x):\n    if (x == 2).any(): raise KeyError('two')\n    return x + 1\n"
    assert load(worker, tmp_path, code)["ok"]
    header, values = worker.evaluate("written", INPUTS, [1, 2, 3])
    assert values == [2, None, 4]
    assert header["failures"] == [[1, "KeyError: 'two'"]]


def test_what_modules_print_stays_out_of_the_socket(worker, tmp_path):
    code = "import os, sys\nprint('imported')\ndef it(x):\n    print('noise' * 10000)\n    os.write(1, b'raw\\n')\n    sys.stderr.write('more\\n')\n    return x\n"
    assert load(worker, tmp_path, code)["ok"]
    # More than a pipe holds: a reader must be there, as in the executor.
    with subprocess.Popen(["cat"], stdin=worker.child.stdout, stdout=subprocess.PIPE) as reader:
        worker.child.stdout.close()
        assert worker.evaluate("written", INPUTS, [1, 2])[1] == [1, 2]
        worker.close()
        lines = reader.stdout.read().decode().rstrip("\n").split("\n")
    assert lines[:2] == ["\x1ewritten", "imported"]
    assert lines[-2:] == ["raw", "more"]


def test_a_module_that_cannot_load_leaves_the_worker_usable(worker, tmp_path):
    header = load(worker, tmp_path, "import nothing_of_that_name\n")
    assert not header["ok"]
    assert "nothing_of_that_name" in header["error"]
    assert load(worker, tmp_path, "def it(x):\n    return x\n")["ok"]


def test_a_worker_ends_when_its_socket_closes(worker):
    worker.connection.close()
    assert worker.child.wait(30) == 0


def test_a_worker_with_another_parent_does_not_start(tmp_path):
    command = [sys.executable, "-m", "redpoll.worker", "--socket", str(tmp_path / "none"), "--parent", "1"]
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/src"
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, timeout=30).returncode == 1


def test_a_worker_ends_when_its_stdin_does(tmp_path):
    worker = Process(tmp_path, "--parent", str(os.getpid()))
    worker.child.stdin.close()
    assert worker.child.wait(30) == 0
    worker.connection.close()


def test_a_worker_dies_with_a_killed_parent(tmp_path):
    # A process in between starts the worker and is killed; the worker's end shows as the end of its stdout.
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from conftest import Process\n"
        "worker = Process(Path(sys.argv[2]), '--parent', str(os.getpid()))\n"
        "worker.held = os.dup(worker.child.stdin.fileno())\n"
        "print(worker.child.pid, flush=True); worker.child.wait()\n"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(here) + "/src"}
    parent = subprocess.Popen(
        [sys.executable, "-c", script, here, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    )
    worker = int(parent.stdout.readline())
    descriptor = os.pidfd_open(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait(30)
    import select

    assert select.select([descriptor], [], [], 30)[0], "the worker is still there"


def test_a_module_beyond_the_memory_limit_fails_its_row(tmp_path):
    worker = Process(tmp_path, "--memory-limit-mb", "2048")
    code = "import numpy as np\ndef it(x):\n    if x == 1: np.ones(1 << 29)\n    return x\n"
    assert load(worker, tmp_path, code, "row")["ok"]
    header, values = worker.evaluate("written", INPUTS, [0, 1, 2])
    assert values == [0, None, 2]
    assert "MemoryError" in header["failures"][0][1]
    worker.close()
