"""What processes take over time: sampled from /proc, and judged by how it grows over the later half of a run."""
import os
import pathlib
import threading
import time

MIB = 1 << 20


def of_process(pid):
    """Resident bytes, file descriptors, threads; None once it is gone."""
    proc = pathlib.Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return {"rss_mib": int(status["VmRSS"].split()[0]) / 1024, "fds": len(os.listdir(proc / "fd")),
                "threads": int(status["Threads"])}
    except (OSError, KeyError):
        return None


def peak_mib(pid):
    """Largest resident memory so far."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class Sampler:
    """Calls functions that return numbers by name, every `pause` seconds, in a thread of its own."""

    def __init__(self, pause, **sources):
        self.pause, self.sources, self.begun = pause, sources, time.monotonic()
        self.series = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self):
        while True:
            self.look()
            if self._ended.wait(self.pause):
                return

    def look(self):
        for name, source in self.sources.items():
            now = time.monotonic() - self.begun
            for what, value in (source() or {}).items():
                self.series.setdefault(f"{name} {what}", []).append((now, value))


def slope(points):
    """Least squares: growth per second."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def growth(points):
    """How much a series grew over the later half of its time, by its slope; and its mean there."""
    middle = (points[0][0] + points[-1][0]) / 2
    later = [point for point in points if point[0] >= middle]
    if len(later) < 2:
        return 0.0, later[-1][1] if later else 0.0
    return slope(later) * (later[-1][0] - later[0][0]), sum(y for _, y in later) / len(later)


def curve(points, width=60, height=8, unit=""):
    """A series as a small plot of text, the largest value of each column."""
    if not points:
        return []
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1e-9)
    columns = [0.0] * width
    for at, value in points:
        column = min(int((at - first) / (last - first) * width), width - 1)
        columns[column] = max(columns[column], value)
    for column in range(1, width):
        columns[column] = columns[column] or columns[column - 1]
    top = max(columns) or 1.0
    lines = []
    for row in range(height, 0, -1):
        bar = "".join("█" if value >= top * (row - 0.5) / height else " " for value in columns)
        lines.append(f"{top * row / height:8.0f}{unit} |{bar}")
    lines.append(f"{'':8}{' ' * len(unit)} +{'-' * width} {last - first:.0f} s")
    return lines
