"""Alerts as fastavro reads them, and which of them the night keeps, without a line of Redpoll."""

import io
import sys
import tarfile
from pathlib import Path

import fastavro

import lib

sys.path.insert(0, str(lib.REPOSITORY / "tests" / "oracle"))

import oracle  # noqa: E402


def contained(data):
    """The alerts of a container."""
    return list(fastavro.reader(io.BytesIO(data)))


def of_folder(folder, pattern="*.avro"):
    """In order of the names of the files."""
    return [alert for path in sorted(Path(folder).glob(pattern)) for alert in contained(path.read_bytes())]


def members(tarball):
    """(name, bytes) of the files of a tarball, in its order."""
    with tarfile.open(tarball) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar if member.isfile()]


def good(alert):
    """Whether it passes the quality cuts of the ZTF night."""
    return oracle.judge(alert)[0] == "kept"
