"""Four RTSP cameras on a street with people, a broker whose sessions last, and an agent as a child process."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from agent.commands._fetch import fetch_video
from engines.pull import pull
from engines.store import ModelStore, default_root
from tests.support.broker import Mosquitto
from tests.support.eventful import PERSISTENT, SAVED_OFTEN
from tests.support.needs import missing
from tests.support.process import Sightwire
from tests.support.rtsp import RtspServer

CAMERAS = ("north", "east", "south", "west")
AGENT = "soak"
RATE = 8
"""Pictures a second of a camera."""
KEY_FRAME_S = 1.0
MODELS = ("person-ssdlite", "efficientnet-lite0")


class Site:
    """Everything at work when the constructor returns, until `close`."""

    def __init__(self, folder: Path) -> None:
        self._scene_every = deque(("2s", "1s", "3s"))
        store = ModelStore(default_root())
        for name in MODELS:
            pull(name, store)
        film = _film(fetch_video(store.root.parent / "demo"), folder)
        self._open = contextlib.ExitStack()
        try:
            persistent = PERSISTENT.format(folder=folder / "mosquitto") + SAVED_OFTEN
            self.broker = self._open.enter_context(Mosquitto(folder, extra=persistent))
            self.cameras = {name: self._open.enter_context(RtspServer(film, fps=RATE)) for name in CAMERAS}
            self.config = folder / "soak.yaml"
            self.events = folder / "events.db"
            self.write_config()
            self.agent = self._open.enter_context(Sightwire("run", self.config, models=store.root))
        except BaseException:
            self._open.close()
            raise

    def change_config(self) -> None:
        """Write it with another rate for the scene."""
        self._scene_every.rotate()
        self.write_config()

    def write_config(self, wrong: bool = False) -> None:
        """As it is; `wrong`: with a mistake."""
        config = self._config(self._scene_every[0])
        if wrong:
            config["cameras"]["north"]["modles"] = []
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def _config(self, scene_every: str) -> dict[str, Any]:
        left, right = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
        cameras = {
            name: {
                "source": camera.urls[0],
                "models": [{"use": "people", "every": "250ms"}, {"use": "scene", "every": scene_every}],
                "track": {"use": "people"},
                "zones": {"left": {"polygon": left}, "right": {"polygon": right}},
                "lines": {"middle": {"points": [[0.5, 0], [0.5, 1]]}},
                "rules": {"somebody": {"type": "presence", "labels": ["person"], "gone_after": "2s"}},
            }
            for name, camera in self.cameras.items()
        }
        return {
            "agent": {"name": AGENT},
            "mqtt": {"url": self.broker.url},
            "events": {"path": str(self.events), "no_subscriber": "keep"},
            "models": {
                "people": {"model": "person-ssdlite"},
                "scene": {"model": "efficientnet-lite0", "top": 1, "threshold": 0.3},
            },
            "cameras": cameras,
        }

    def end_agent(self) -> int:
        """SIGTERM; the exit status."""
        return self.agent.end(signal.SIGTERM, 30)

    def close(self) -> None:
        """End everything; what was frozen too."""
        self._open.close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _film(street: Path, folder: Path) -> Path:
    """The demo's street where people walk, at `RATE`, with a key frame a second, as small cameras code it."""
    path = folder / "street.mp4"
    filters = f"fps={RATE},scale=480:204"
    gop = str(round(RATE * KEY_FRAME_S))
    ffmpeg = shutil.which("ffmpeg") or missing("ffmpeg")
    command = [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-ss", "2.8", "-i", str(street), "-an"]
    command += ["-vf", filters, "-c:v", "libx264", "-preset", "superfast", "-profile:v", "baseline", "-bf", "0"]
    command += ["-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-threads", "1", str(path)]
    subprocess.run(command, check=True, timeout=120)
    return path


def account_of(metrics: dict[str, Any]) -> Iterator[tuple[str, dict[str, int]]]:
    """Each account of law 7 in a metrics message, by its name."""
    for camera, counts in metrics["cameras"].items():
        for use, account in counts["uses"].items():
            yield f"{camera}/{use}", account
