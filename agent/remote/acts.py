"""What commands do. Each returns what holds now, and raises Denied where it cannot be."""

from __future__ import annotations

import difflib
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.camera import Camera
from agent.errors import ConfigError
from agent.remote.answers import Answers
from agent.remote.payloads import AnyCommand, ReloadCommand, SetThresholdCommand, SnapshotCommand
from agent.snapshots.book import NoPicture
from agent.uses import Use

log = logging.getLogger(__name__)

RELOAD_EVERY_S = 10.0
"""A reload costs some seconds of results: asked for again and again, nothing would be seen any more."""
MOST_NAMED = 20
"""Names in an answer."""


class Denied(Exception):
    """A command that was read and allowed cannot be obeyed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Thresholds:
    """What commands have set of one use."""

    labels: tuple[str, ...]
    configured: NDArray[np.float32] | None
    """(C,) what the configuration said then."""
    values: dict[str | None, float] = field(default_factory=dict)
    """Label, or None for all -> least score, in the order in which they were set."""

    def fit(self, use: Use) -> bool:
        """Whether the configuration says of this use what it said then."""
        if self.labels != use.labels or self.configured is None or use.thresholds is None:
            return self.labels == use.labels and self.configured is use.thresholds
        return bool(np.array_equal(self.configured, use.thresholds))


@dataclass
class Standing:
    """What commands left behind; outlives a reload, not the process."""

    answers: Answers = field(default_factory=Answers)
    disabled: set[str] = field(default_factory=set)
    """Cameras: whoever switched one off does not expect another's reload to switch it on."""
    thresholds: dict[tuple[str, str], Thresholds] = field(default_factory=dict)
    """(camera, use) -> what was set, until the configuration says something else of it than it did then."""
    reloaded_s: float | None = None
    """When a command asked for a reload, last; `time.monotonic`."""
    reload: dict[str, Any] = field(default_factory=dict)
    """What the last reload came to, as status says it; replaced, never changed."""

    def hold(self, camera: Camera) -> None:
        """Have a camera that was just made of its configuration do as commands said."""
        if camera.name in self.disabled:
            camera.switch(on=False)
        for name, use in camera.uses_by_name.items():
            told = self.thresholds.get((camera.name, name))
            if told is None:
                continue
            if told.fit(use):
                for label, value in list(told.values.items()):
                    use.report_from(label, value)
            else:  # the configuration is newer than the command
                del self.thresholds[camera.name, name]


class Acts:
    """Used by one thread, the one that obeys."""

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        standing: Standing,
        *,
        snapshot: Callable[[str], str],
        publishing: Collection[str] = (),
        reload: Callable[[], None] | None = None,
    ) -> None:
        """`snapshot` publishes the newest picture of a camera and returns its name, or raises NoPicture.

        `publishing`: cameras that may be asked for one.
        `reload` begins anew with what the configuration file says now, or raises ConfigError.
        """
        self._cameras, self._standing, self._publishing = cameras, standing, publishing
        self._snapshot, self._reload = snapshot, reload

    def obey(self, command: AnyCommand, camera: str | None) -> dict[str, Any]:
        """Do it. Raises Denied."""
        if isinstance(command, ReloadCommand):
            if camera is not None:
                raise Denied("malformed", "reload is the whole agent's, not a camera's")
            return self._read_again()
        if camera is None:
            raise Denied("malformed", "which camera? Name it in 'camera', or use topic <camera>/command")
        its = self._cameras.get(camera)
        if its is None:
            raise Denied("no_such_camera", _unknown("camera", camera, self._cameras))
        if isinstance(command, SetThresholdCommand):
            return self._set_threshold(its, command)
        if isinstance(command, SnapshotCommand):
            return self._take(its)
        return self._switch(its, on=command.command == "enable")

    def _switch(self, camera: Camera, *, on: bool) -> dict[str, Any]:
        (self._standing.disabled.discard if on else self._standing.disabled.add)(camera.name)
        changed = camera.switch(on=on)
        if changed:
            log.info("%s: %s by a command", camera.name, "enabled" if on else "disabled")
        return {"state": camera.state, "changed": changed}

    def _set_threshold(self, camera: Camera, command: SetThresholdCommand) -> dict[str, Any]:
        uses = camera.uses_by_name
        use = uses.get(command.use)
        if use is None:
            raise Denied("no_such_use", _unknown("use", command.use, uses))
        if command.label is not None and command.label not in use.labels:
            raise Denied("no_such_label", _unknown("label", command.label, use.labels))
        labels = use.labels if command.label is None else (command.label,)
        if use.floor is not None:
            floors = dict(zip(use.labels, use.floor.tolist(), strict=True))
            labels = tuple(label for label in labels if math.isfinite(floors[label]))
            if not labels:
                raise Denied("no_such_label", f"{command.label!r} is not reported: it is not among the model's 'only'")
        told = self._standing.thresholds.setdefault((camera.name, use.name), Thresholds(use.labels, use.thresholds))
        if command.label is None:
            told.values.clear()
        told.values[command.label] = command.value
        holding = dict(zip(use.labels, use.report_from(command.label, command.value).tolist(), strict=True))
        log.info("%s: %s: threshold %g by a command", camera.name, use.name, command.value)
        held = {label: round(holding[label], 4) for label in labels}
        result: dict[str, Any] = {"use": use.name, "label": command.label, "threshold": min(held.values())}
        higher = {label: score for label, score in held.items() if score > round(command.value, 4)}
        if higher:
            result["higher"] = dict(sorted(higher.items())[:MOST_NAMED])
            result["because"] = "the model reports nothing under these: lower ones need the configuration"
        return result

    def _take(self, camera: Camera) -> dict[str, Any]:
        if camera.name not in self._publishing:
            raise Denied("not_configured", f"cameras.{camera.name}.snapshots: publish: true is not configured")
        if not camera.enabled:
            raise Denied("no_picture", "the camera is disabled")
        try:
            return {"name": self._snapshot(camera.name), "topic": f"{camera.name}/snapshot"}
        except NoPicture as error:
            raise Denied("no_picture", str(error)) from None

    def _read_again(self) -> dict[str, Any]:
        if self._reload is None:
            raise Denied("not_configured", "this agent was not started from a configuration file")
        now_s, last_s = time.monotonic(), self._standing.reloaded_s
        if last_s is not None and now_s - last_s < RELOAD_EVERY_S:
            raise Denied("busy", f"it was asked for {now_s - last_s:.0f} s ago; at most each {RELOAD_EVERY_S:g} s")
        self._standing.reloaded_s = now_s
        try:
            self._reload()
        except ConfigError as error:
            raise Denied("wrong_configuration", str(error)[:2000]) from None
        return {"state": "starting"}


def _unknown(what: str, given: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    names = ", ".join(list(known)[:MOST_NAMED])
    return f"no {what} is called {given!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are: {names}")
