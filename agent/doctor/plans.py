"""TensorRT's plans beside the models: which fit the GPU that is here, which were altered, which could not be made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.doctor.findings import Finding, note, ok
from agent.doctor.probes import flavours
from agent.doctor.room import ProbeError, ask
from agent.doctor.storage import MODELS
from engines.errors import EngineError
from engines.store import ModelStore
from engines.trt.passport import AMPERE, Passport, read_passport
from engines.trt.store import FOLDER

TOPIC = MODELS
_KEY = "[0-9a-f]{16}"


@dataclass(frozen=True)
class Here:
    """What a plan has to fit."""

    gpus: frozenset[tuple[str, str]] = frozenset()
    """(name, compute capability) of each."""
    flavour: str | None = None
    """That is used."""
    version: str = ""

    def fits(self, passport: Passport) -> bool:
        """Whether the plan of that passport would be loaded here."""
        if passport.flavour != self.flavour:
            return False
        if passport.version not in (self.version, self.version.partition(".")[0]):
            return False
        if passport.hardware_compatible:
            return any(_pair(capability) >= AMPERE for _, capability in self.gpus)
        return any(
            passport.compute_capability == capability and passport.device in (None, name)
            for name, capability in self.gpus
        )


@dataclass
class _Plans:
    """What lies beside one model file."""

    fit: list[Passport] = field(default_factory=list)
    others: list[Passport] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def look(store: ModelStore) -> Iterator[Finding]:
    """Plans of every model of the store; nothing where there are none and no GPU to make them for. Changes nothing."""
    here = _here()
    without = []
    for name in store.names():
        try:
            card, where = store.find(name)
        except EngineError:  # `storage` says so
            continue
        some = False
        for precision, entry in card.files.items():
            plans = _read(where / entry.path, entry.sha256, here)
            yield from _say(f"{name}@{precision}", name, plans, here)
            some = some or bool(plans.fit or plans.others or plans.failed or plans.altered)
        if not some:
            without.append(name)
    if here.gpus and here.flavour and without:
        text = f"no plan for this GPU yet: {', '.join(without)}; the agent makes what it needs while the CPU serves"
        yield note(TOPIC, text, f"sightwire build {' '.join(without)}")


def _pair(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))


def _say(model: str, name: str, plans: _Plans, here: Here) -> Iterator[Finding]:
    for passport in plans.fit:
        made = passport.made
        latency = f", {made.latency_ms:.1f} ms for {passport.batches[2]} pictures" if made and made.latency_ms else ""
        checked = f", not compared with the CPU: {made.unchecked}" if made and made.unchecked else ""
        instead = f", instead of what was asked for: {made.instead_of}" if made and made.instead_of else ""
        text = f"{model}: plan by {passport.flavour} {passport.version} for {passport.gpu}{latency}{checked}{instead}"
        yield note(TOPIC, text) if checked or instead else ok(TOPIC, text)
    for path in plans.altered:
        yield note(TOPIC, f"{model}: {path} is cut short or altered; it is made anew", f"sightwire build {name}")
    for reason in plans.failed:
        text = f"{model}: no plan could be made: {reason}; the CPU does the work"
        yield note(TOPIC, text, f"sightwire build {name} --again")
    if plans.others and not plans.fit:
        theirs = sorted({f"{p.gpu} by {p.flavour} {p.version}" for p in plans.others})
        text = f"{model}: plans for other GPUs or versions than here: {'; '.join(theirs)}"
        yield ok(TOPIC, text) if not here.gpus else note(TOPIC, text, f"sightwire build {name}")


def _read(model: Path, sha256: str, here: Here) -> _Plans:
    """Of one model file; those of an earlier file of that name are left out."""
    plans = _Plans()
    try:
        names = sorted(path.name for path in (model.parent / FOLDER).iterdir())
    except OSError:
        return plans
    for name in names:
        if not (match := re.fullmatch(rf"{re.escape(model.stem)}-{_KEY}(\.failed)?\.json", name)):
            continue
        path = model.parent / FOLDER / name
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if match[1]:
            passport, reason = _failure(content)
            if passport and passport.model == sha256 and here.fits(passport):
                plans.failed.append(reason)
            continue
        passport = read_passport(content)
        if (
            passport is None
            or passport.made is None
            or not _whole(path.with_suffix(".plan"), passport.made.plan_sha256)
        ):
            plans.altered.append(str(path.with_suffix(".plan")))
        elif passport.model == sha256:
            (plans.fit if here.fits(passport) else plans.others).append(passport)
    return plans


def _failure(content: bytes) -> tuple[Passport | None, str]:
    """What `PlanStore.fail` wrote; (None, "") for anything else."""
    try:
        said = json.loads(content)
        passport = read_passport(json.dumps(said["passport"]).encode())
        return passport, f"{said['reason']} (tried {said['when']})"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, ""


def _whole(plan: Path, sha256: str) -> bool:
    try:
        with plan.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == sha256


def _here() -> Here:
    """GPU and TensorRT; neither where either does not answer (`gpu` says why)."""
    try:
        devices = ask("cuda").get("devices", ())
        found: dict[str, Any] = ask("tensorrt") if devices and flavours() else {}
    except ProbeError:
        return Here()
    gpus = frozenset((str(device["name"]), str(device["compute"])) for device in devices)
    used = next(((name, str(about["version"])) for name, about in found.items() if "version" in about), (None, ""))
    return Here(gpus, *used)
