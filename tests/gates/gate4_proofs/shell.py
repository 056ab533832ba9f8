"""A user's shell: lines are typed as they stand, in a folder, with output piped or on a terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import lib

# Where `redpoll` is on the path, and nothing of what the gate's own shell sets for it is heard.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("REDPOLL_")}
ENVIRONMENT["PATH"] = f"{Path(lib.REDPOLL).parent}:{ENVIRONMENT['PATH']}"


class Typed:
    """A line that was typed, and what came of it. On a terminal `err` is part of `out`."""

    def __init__(self, line, code, out, err, seconds):
        self.line, self.code, self.out, self.err, self.seconds = line, code, out, err, seconds

    @property
    def said(self):
        return f"exit {self.code}: {(self.err.strip() or self.out.strip())[-300:]}"


def typed(line, folder, env=None, timeout=300):
    """Output and errors are piped, so nobody watches."""
    begun = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**ENVIRONMENT, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Typed(line, done.returncode, done.stdout, done.stderr, time.monotonic() - begun)


def on_terminal(line, folder, presses=(), env=None, timeout=300, size=(40, 110)):
    """On a terminal of its own. `presses` are (text, keys): once the text is drawn, the keys are pressed; b"\\x03" is Ctrl-C."""
    begun, waiting = time.monotonic(), list(presses)
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    child = subprocess.Popen(
        ["bash", "-c", line],
        cwd=folder,
        env={**ENVIRONMENT, "TERM": "xterm-256color", **(env or {})},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    drawn = ""
    try:
        while (piece := read(controller, begun + timeout)) is not None:
            drawn += piece
            if waiting and waiting[0][0] in plain(drawn):
                os.write(controller, waiting.pop(0)[1])
        code = child.wait(30)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        os.close(controller)
    if waiting:
        raise lib.TimedOut(f"{line} never drew '{waiting[0][0]}': {plain(drawn)[-500:]}")
    return Typed(line, code, drawn, "", time.monotonic() - begun)


def read(controller, deadline):
    """What is drawn next; None at the end."""
    while not select.select([controller], [], [], 0.2)[0]:
        if time.monotonic() > deadline:
            raise lib.TimedOut("the line that was typed does not end")
    try:
        return os.read(controller, 1 << 16).decode(errors="replace") or None
    except OSError:  # the other end is closed
        return None


def plain(drawn):
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


def examples(text):
    """What a help text's examples call, lines that go on put together."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("redpoll ")]
