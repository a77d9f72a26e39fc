"""Where models and results lie: is it there, may we write, is there room, and are the models whole?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent.config import Settings
from agent.doctor.findings import Finding, note, ok, problem
from agent.errors import ConfigError
from agent.models import find_cards
from agent.sinks.jsonl import Config as Jsonl
from engines import catalogue
from engines.card import Card, model_file
from engines.errors import EngineError
from engines.store import ModelStore

TOPIC = "storage"
MODELS = "models"
LITTLE_MIB = 500
"""Two models with their compiled networks take about 100 MiB; converting one takes as much again for a moment."""
_FEW_INODES = 1000


def folder(root: Path) -> Iterator[Finding]:
    """The model folder: rights and room."""
    there = _nearest(root)
    if not os.access(there, os.W_OK | os.X_OK):
        yield problem(
            TOPIC,
            f"{root}: may not be written by this user",
            f"sudo mkdir -p {root} && sudo chown $USER {root}, or SIGHTWIRE_MODELS=FOLDER",
        )
    yield from room(there, f"{root}" if there == root else f"{root} (not there yet)")


def room(there: Path, name: str) -> Iterator[Finding]:
    """Free space and inodes of the file system that `there` is in."""
    system = os.statvfs(there)
    free_mib = system.f_bavail * system.f_frsize / 2**20
    text = f"{name}: {free_mib / 1024:.1f} GiB free"
    if free_mib < LITTLE_MIB:
        yield problem(TOPIC, f"{text}: too little", f"du -xh --max-depth=2 {_mount(there)} | sort -h | tail")
    elif system.f_files and system.f_favail < _FEW_INODES:
        yield problem(
            TOPIC, f"{text}, but no room for more files (inodes)", f"du -x --inodes {_mount(there)} | sort -n"
        )
    else:
        yield ok(TOPIC, text)


def installed(store: ModelStore) -> Iterator[Finding]:
    """Every file of every model, by its sha256."""
    whole = []
    for name in store.names():
        try:
            card, where = store.find(name)
            for precision in card.files:
                model_file(card, where, precision)
        except EngineError as error:
            yield problem(MODELS, str(error), _again(name))
        else:
            whole.append(f"{name} ({', '.join(card.files)})")
    if whole:
        yield ok(MODELS, f"whole: {', '.join(whole)}")
    elif not store.names():
        yield note(MODELS, f"none in {store.root} yet", "sightwire models pull person-ssdlite")


def configured(settings: Settings, store: ModelStore) -> Iterator[Finding]:
    """The models that a configuration names."""
    cards: dict[str, Card] = {}
    for name, section in settings.models.items():
        try:
            cards[name], where = store.find(section.model)
            if where.parent != store.root and section.precision in cards[name].files:  # the others are looked at above
                model_file(cards[name], where, section.precision)
        except EngineError as error:
            # Of an absent model the error says how to get it; here the mend does.
            what = str(error).partition("; get it with")[0]
            yield problem(MODELS, f"models.{name}: {what}", _get(section.model, name))
    if len(cards) < len(settings.models):
        return
    try:
        find_cards(settings, store)
    except ConfigError as error:
        for line in str(error).splitlines():
            config, number, _ = line.split(":", 2)
            yield problem(MODELS, line, f"${{EDITOR:-vi}} +{number} {config}")
    else:
        yield ok(MODELS, f"of the configuration: {', '.join(sorted({card.name for card in cards.values()}))}")


def sinks(settings: Settings) -> Iterator[Finding]:
    """Files that results go to."""
    for sink in settings.all_sinks():
        if not isinstance(sink, Jsonl) or str(sink.path) == "-":
            continue
        target = sink.path if sink.path.exists() else sink.path.parent
        if not os.access(target, os.W_OK):
            yield problem(TOPIC, f"{sink.path}: cannot be written", f"mkdir -p {sink.path.parent}; ls -ld {target}")
        else:
            yield from room(target, str(sink.path))


def collected(settings: Settings) -> Iterator[Finding]:
    """The folder that pictures for calibration are kept in."""
    if (collect := settings.calibration.collect) is None:
        return
    there = _nearest(collect.folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = f"mkdir -p {collect.folder}; ls -ld {there}"
        yield problem(TOPIC, f"{collect.folder}: pictures cannot be kept here", mend)
    else:
        yield from room(there, f"{collect.folder} (pictures, at most {collect.max_mb} MB)")


def _nearest(path: Path) -> Path:
    """The folder itself, or the one above it that is there."""
    return next(p for p in (path, *path.absolute().parents) if p.exists())


def _mount(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.is_mount())


def _get(model: str, entry: str) -> str:
    if model in catalogue.names():
        return f"sightwire models pull {model}"
    return f"models.{entry}.model: a name from 'sightwire models list', or the path of a card"


def _again(name: str) -> str:
    if name in catalogue.names():
        return f"sightwire models pull --again {name}"
    return f"import {name} again from its ONNX file"
