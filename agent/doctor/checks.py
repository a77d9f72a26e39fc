"""Which checks there are, of the machine and of a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from agent.doctor import cameras, clock, gpu, machine, packages
from agent.doctor.examine import Check
from agent.doctor.findings import Finding, ok, problem


def of_machine(discover: bool) -> list[Check]:
    """Everything that needs no configuration. `discover`: search the networks for ONVIF cameras too."""
    checks = [
        Check(machine.TOPIC, machine.look),
        Check(clock.TOPIC, clock.look, if_stuck="timedatectl"),
        Check(packages.TOPIC, packages.look, 7.0, f"{packages.PIP} check"),
        Check(gpu.TOPIC, gpu.nvidia, 7.0, "nvidia-smi; sudo dmesg | tail"),
        Check(gpu.TOPIC, gpu.openvino, 7.0, "sudo dmesg | tail"),
        Check(cameras.TOPIC, cameras.plugged_in, if_stuck="v4l2-ctl --list-devices; sudo dmesg | tail"),
        Check(cameras.TOPIC, cameras.gstreamer, 7.0, "gst-inspect-1.0 --version"),
    ]
    return [*checks, Check(cameras.TOPIC, cameras.onvif)] if discover else checks


def of_site(config: Path | None) -> list[Check]:
    """Models, and for a configuration its broker and cameras. Where it cannot be read: why, as a check's findings."""
    from agent.config import load  # looks at every part, and so at every installed distribution
    from agent.doctor import broker, sources, storage
    from agent.errors import ConfigError
    from agent.sinks.mqtt import Config as Mqtt
    from engines.store import ModelStore, default_root

    store = ModelStore(default_root())
    hint = f"df -h {store.root}"
    checks = [
        Check(storage.TOPIC, partial(storage.folder, store.root), if_stuck=hint),
        Check(storage.MODELS, partial(storage.installed, store), 7.5, hint),
    ]
    if config is None:
        return checks
    try:
        settings = load(config)
    except ConfigError as error:
        return [*checks, Check("configuration", partial(_mistakes, config, str(error)))]
    whole = f"{config}: right"
    checks += [
        Check("configuration", lambda: [ok("configuration", whole)]),
        Check(storage.MODELS, partial(storage.configured, settings, store), if_stuck=hint),
        Check(storage.TOPIC, partial(storage.sinks, settings), if_stuck="df -h"),
    ]
    for sink in settings.all_sinks():
        if isinstance(sink, Mqtt):
            look = partial(broker.look, sink, settings.agent.name)
            checks.append(Check(broker.TOPIC, look, broker.LIMIT_S, "mqtt: {url: ...} of a broker that answers"))
    for name, camera in settings.cameras.items():
        look = partial(sources.look, name, camera.source)
        stuck = f"cameras.{name}.source: does it answer other programs?"
        checks.append(Check(sources.TOPIC, look, sources.LIMIT_S, stuck))
    return checks


def _mistakes(config: Path, lines: str) -> Iterator[Finding]:
    for line in lines.splitlines():
        at = re.match(rf"{re.escape(str(config))}:(\d+):", line)
        yield problem("configuration", line, f"${{EDITOR:-vi}} +{at[1] if at else 1} {config}")
