"""Disks that are full: the warehouse's, the executors' work folder, and where the scheduler keeps large answers."""
import contextlib
import os
import subprocess

import lib
import world


QUESTION = "SELECT * FROM disks"


class Full(Exception):
    """This machine lets nobody mount a small disk."""


@contextlib.contextmanager
def disk(folder, mib):
    """A file system of its own in memory."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "redpoll-gate", folder], capture_output=True, text=True)
    if done.returncode != 0:
        raise Full(done.stderr.strip())
    try:
        yield folder
    finally:
        lib.end_all()
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Takes all the room that is left, in a file that may be removed again."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def prove(report):
    report.section("disks")
    folder = lib.scratch("misbehave-disks")
    try:
        with disk(folder / "small", 64) as small, disk(folder / "answers", 1) as answers:
            proofs(report, folder, small, answers)
    except Full as reason:
        report.skip("disks", f"no file system may be mounted: {reason}")


class Cluster(lib.Cluster):
    """Executors work in a folder of the small disk."""

    def start_executor(self):
        self.n_started += 1
        name = f"executor-{self.n_started}"
        return lib.Process(name, [lib.REDPOLL, "executor", "--scheduler", self.url, "--vcores", self.vcores, "--work-dir",
                                  self.small / name], self.folder)


def proofs(report, folder, small, answers):
    files = world.alerts(90, folder / "made")
    source = folder / "source"
    source.mkdir()
    cluster = Cluster(folder / "cluster", warehouse=small / "warehouse", options=["--store", "127.0.0.1:9", "--result-memory", "1KiB"])
    cluster.small = small
    cluster.start({"TMPDIR": str(answers)})
    stream = world.Stream(cluster, "disks", source, options="")

    def arrive(first, last):
        for path in files[first:last]:
            os.link(path, source / path.name)

    arrive(0, 30)
    stream.run()
    stream.wait(30)
    ballast = fill(small)
    arrive(30, 60)
    status = stream.wait_trouble("log|run|publish|receipts")
    world.says(report, stream, status, "a full disk", "No space left on device", "make room")
    ballast.unlink()
    arrive(60, 90)
    stream.wait(90)
    world.well(report, stream)
    world.exact(report, "once there is room again", stream.files(), {path.name for path in files})
    stream.stop()

    ballast = fill(answers)
    asked = lib.redpoll("sql", QUESTION, "--scheduler", cluster.url)
    report.check("an answer that finds no room names the folder", asked.returncode == 1 and f"could not be kept in {answers}" in asked.stderr,
                 asked.stderr.strip())
    ballast.unlink()
    report.equal("and is given once there is", len(lib.redpoll_json("sql", QUESTION, "--scheduler", cluster.url)), 90)
