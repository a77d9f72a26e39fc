"""Which checks there are, of the machine and of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor import cameras, clock, gpu, machine, packages, tensorrt
from agent.doctor.examine import Check
from agent.doctor.findings import Finding, ok, problem

if TYPE_CHECKING:
    from agent.config import Settings

SLOW_S = 7.5
"""For checks that start programs or wait for others: the whole examination stays below eight seconds."""


def of_machine(discover: bool) -> list[Check]:
    """Everything that needs no configuration. `discover`: search the networks for ONVIF cameras too."""
    checks = [
        Check(machine.TOPIC, machine.look),
        Check(clock.TOPIC, clock.look, if_stuck="timedatectl"),
        Check(packages.TOPIC, packages.look, SLOW_S, f"{packages.PIP} check"),
        Check(gpu.TOPIC, gpu.nvidia, SLOW_S, "nvidia-smi; sudo dmesg | tail"),
        Check(tensorrt.TOPIC, tensorrt.look, SLOW_S, "nvidia-smi; sudo dmesg | tail"),
        Check(tensorrt.TOPIC, tensorrt.opened, SLOW_S, "nvidia-smi; sudo dmesg | tail"),
        Check(gpu.TOPIC, gpu.openvino, SLOW_S, "sudo dmesg | tail"),
        Check(cameras.TOPIC, cameras.plugged_in, if_stuck="v4l2-ctl --list-devices; sudo dmesg | tail"),
        Check(cameras.TOPIC, cameras.gstreamer, SLOW_S, "gst-inspect-1.0 --version"),
    ]
    return [*checks, Check(cameras.TOPIC, cameras.onvif)] if discover else checks


def of_site(config: Path | None) -> list[Check]:
    """Models, and for a configuration its broker and cameras. Where it cannot be read: why, as a check's findings."""
    try:
        return _of_site(config)
    except Exception as error:  # noqa: BLE001 - a part that does not load; `packages` says more, and must get to say it
        reason = f"cannot be examined: {type(error).__name__}: {error}"
        return [Check("configuration", lambda: [problem("configuration", reason, f"{packages.PIP} check")])]


def _of_site(config: Path | None) -> list[Check]:
    from agent.config import load  # looks at every part, and so at every installed distribution
    from agent.doctor import broker, plans, sources, storage
    from agent.errors import ConfigError
    from agent.sinks.mqtt import Config as Mqtt
    from engines.store import ModelStore, default_root

    store = ModelStore(default_root())
    hint = f"df -h {store.root}"
    checks = [
        Check(storage.TOPIC, partial(storage.folder, store.root), if_stuck=hint),
        Check(storage.MODELS, partial(storage.installed, store), SLOW_S, hint),
        Check(plans.TOPIC, partial(plans.look, store), SLOW_S, hint),
    ]
    if config is None:
        return checks
    try:
        settings = load(config)
    except ConfigError as error:
        return [*checks, Check("configuration", partial(_mistakes, config, str(error)))]
    whole = f"{config}: right"
    checks += [
        Check("configuration", lambda: [ok("configuration", whole), ok("configuration", _commands(settings))]),
        Check(storage.MODELS, partial(storage.configured, settings, store), if_stuck=hint),
        Check(storage.TOPIC, partial(storage.sinks, settings), if_stuck="df -h"),
        Check(storage.TOPIC, partial(storage.collected, settings), if_stuck="df -h"),
    ]
    for sink in settings.all_sinks():
        if isinstance(sink, Mqtt):
            look = partial(broker.look, sink, settings.agent.name)
            checks.append(Check(broker.TOPIC, look, SLOW_S, "mqtt: {url: ...} of a broker that answers"))
    for names in settings.connections():  # a webcam cannot be opened twice
        look = partial(sources.look, names, settings.cameras[names[0]].source)
        stuck = f"cameras.{names[0]}.source: does it answer other programs?"
        checks.append(Check(sources.TOPIC, look, SLOW_S, stuck))
    return checks


def _commands(settings: Settings) -> str:
    """What others may ask this agent to do."""
    if allowed := settings.commands.allow:
        return f"may be asked over MQTT: {', '.join(allowed)}"
    return "nothing may be asked over MQTT; 'commands: {allow: [enable, disable]}' would change that"


def _mistakes(config: Path, lines: str) -> Iterator[Finding]:
    for line in lines.splitlines():
        at = re.match(rf"{re.escape(str(config))}:(\d+):", line)
        yield problem("configuration", line, f"${{EDITOR:-vi}} +{at[1] if at else 1} {config}")
