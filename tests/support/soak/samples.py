"""What is sampled of the agent's process, and what is said of an hour of samples."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil


@dataclass(frozen=True)
class Sample:
    """One look at the agent."""

    at_s: float
    """Since the start of the soak."""
    rss_mb: float
    pss_mb: float
    anonymous_mb: float
    """Without mapped files, whose pages come and go with those of other processes: where a leak would be."""
    fds: int
    threads: int
    children: int
    cpu_s: float
    results: int
    """Arrived since the last sample."""
    age_p50_ms: float | None
    """Of the results that arrived since the last sample, when they were handed over."""
    age_p95_ms: float | None
    arrived_p50_ms: float | None
    """... when they arrived."""
    arrived_p95_ms: float | None


def sample(process: psutil.Process, at_s: float, ages_ms: tuple[list[float], list[float]]) -> Sample:
    """Look at it. Raises psutil.NoSuchProcess where there is none."""
    with process.oneshot():
        times = process.cpu_times()
        return Sample(
            at_s=round(at_s, 2),
            rss_mb=process.memory_info().rss / 1e6,
            pss_mb=_smaps_mb(process.pid, "Pss"),
            anonymous_mb=_smaps_mb(process.pid, "Anonymous"),
            fds=process.num_fds(),
            threads=process.num_threads(),
            children=len(process.children(recursive=True)),
            cpu_s=times.user + times.system,
            results=len(ages_ms[0]),
            age_p50_ms=share(ages_ms[0], 50),
            age_p95_ms=share(ages_ms[0], 95),
            arrived_p50_ms=share(ages_ms[1], 50),
            arrived_p95_ms=share(ages_ms[1], 95),
        )


def share(values: list[float], percent: float) -> float | None:
    """That percentile; None of nothing."""
    return float(np.percentile(values, percent)) if values else None


def _smaps_mb(pid: int, entry: str) -> float:
    """A sum over all its mappings; Pss: its own memory, with its part of what is shared."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


class Log:
    """Samples in a file, a JSON object a line, so that a soak that is cut short is not lost."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self.samples: list[Sample] = []

    def add(self, seen: Sample) -> None:
        """One more."""
        self.samples.append(seen)
        print(json.dumps({"at": time.time(), **asdict(seen)}), file=self._file)

    def close(self) -> None:
        """End the file."""
        self._file.close()


@dataclass(frozen=True)
class Growth:
    """How a figure went after the warm-up."""

    first: float
    """Median of the first tenth."""
    last: float
    """Median of the last tenth."""
    per_hour: float
    """Slope: the median of the slopes between all pairs of samples (Theil and Sen), which single peaks do not move."""
    span_h: float

    @property
    def percent_per_hour(self) -> float:
        """Slope, of the first value."""
        return self.per_hour / self.first * 100

    @property
    def percent(self) -> float:
        """The last tenth against the first."""
        return (self.last / self.first - 1) * 100


def growth(at_s: list[float], values: list[float]) -> Growth:
    """Of samples after the warm-up; three at least."""
    at, seen = np.asarray(at_s) / 3600, np.asarray(values)
    earlier, later = np.triu_indices(len(at), 1)
    slopes = (seen[later] - seen[earlier]) / (at[later] - at[earlier])
    tenth = max(1, len(seen) // 10)
    first, last = statistics.median(values[:tenth]), statistics.median(values[-tenth:])
    return Growth(first, last, float(np.median(slopes)), float(at[-1] - at[0]))
