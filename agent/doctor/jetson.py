"""Jetson boards: which one, and which JetPack, by the release of its Linux for Tegra (L4T)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.files import read

#: First L4T -> its JetPack, by NVIDIA's archive of September 2026; apt brings later L4T to the same JetPack.
_JETPACKS = (
    ((34,), "5"),
    ((36,), "6.0"),
    ((36, 4), "6.1"),
    ((36, 4, 3), "6.2"),
    ((36, 4, 4), "6.2.1"),
    ((36, 5), "6.2.2"),
    ((36, 5, 2), "6.2.3"),
    ((38,), "7.0"),
    ((38, 4), "7.1"),
    ((39,), "7.2"),
    ((39, 2, 1), "7.2.1"),
)
_NEWEST_OF_MAJOR = {"6.2.3", "7.2.1"}
"""After which a later L4T may be another JetPack."""
_ENDED = 39
"""The last L4T whose JetPack is known."""


@dataclass(frozen=True)
class Jetson:
    """A board of NVIDIA's with the GPU in it."""

    model: str
    l4t: tuple[int, ...] | None
    """(36, 4, 3); None: its release file is not here (a container, another distribution)."""

    @property
    def jetpack(self) -> str | None:
        """`6.2`; with a `+` where it may be a later one; None where nothing is known."""
        known = [(first, name) for first, name in _JETPACKS if self.l4t is not None and first <= self.l4t]
        if self.l4t is None or not known or self.l4t[0] > _ENDED:
            return None
        first, name = known[-1]
        return f"{name}+" if name in _NEWEST_OF_MAJOR and self.l4t > (*first, 0, 0)[:3] else name

    @property
    def major(self) -> int | None:
        """Of JetPack: 6."""
        return int(self.jetpack[0]) if self.jetpack else None

    def __str__(self) -> str:
        """`NVIDIA Jetson Orin Nano, JetPack 6.2 (L4T 36.4.3)`."""
        if self.l4t is None:
            return self.model
        jetpack = f"JetPack {self.jetpack} " if self.jetpack else ""
        return f"{self.model}, {jetpack}(L4T {'.'.join(map(str, self.l4t))})"


def find(root: Path) -> Jetson | None:
    """The board that this is; None on other machines. `root`: where /proc and /etc are."""
    model = read(root / "proc/device-tree/model").strip("\0\n")
    release = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", read(root / "etc/nv_tegra_release"))
    if release is None and "jetson" not in model.lower():
        return None
    l4t = tuple(int(part) for part in (release[1], *release[2].split("."))) if release else None
    return Jetson(model or "NVIDIA Jetson", l4t)
