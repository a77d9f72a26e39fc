"""Plans, kept beside the model they were made of: `.tensorrt/<model file's stem>-<key>.{plan,json,cubin,...}`.

`<..>.json` is the passport. What is cut short or altered is told by its sha256 before TensorRT sees a byte of it, goes
away and is named in the log. A plan for another GPU, version or option has another key, and is just not found.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import io
import json
import logging
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from engines.trt.errors import NotKept
from engines.trt.kernel import NONE, source_version
from engines.trt.passport import Passport, Plan, read_passport
from engines.trt.reference import Reference

FOLDER = ".tensorrt"
_KEPT = 8
"""Plans of one model file: for other GPUs, versions and options. The newest stay."""
_PARTS = (".json", ".plan", ".cubin", ".reference.npz")
"""The passport first: without it the others are not used."""
_POLL_S = 0.1
log = logging.getLogger(__name__)


class PlanStore:
    """The plans of one ONNX file. Any number of processes may use it at once."""

    def __init__(self, model: Path, folder: Path | None = None) -> None:
        """`folder`: where they lie; default: beside the model."""
        self.model = model
        self.folder = folder or model.parent / FOLDER

    def path(self, passport: Passport, suffix: str = ".plan") -> Path:
        """Where the plan of this passport lies, or what belongs to it."""
        return self.folder / f"{self.model.stem}-{passport.key}{suffix}"

    def find(self, passport: Passport) -> Plan | None:
        """The plan of this passport, its bytes checked; None if it has to be made."""
        if not self.path(passport, ".json").is_file():
            return None
        found = self._read(passport)
        if isinstance(found, Plan):
            return found
        with contextlib.suppress(OSError), self._locked():  # somebody may have been writing it
            found = self._read(passport)
            if isinstance(found, str):
                self._remove(passport)
        if isinstance(found, str):
            log.warning("%s: %s: it is not used, and made anew", self.path(passport), found)
            return None
        return found

    def save(self, passport: Passport, data: bytes, cubin: bytes | None, reference: Reference | None) -> Plan:
        """Keep a plan whose passport has `made`; older ones go when there are many. Raises NotKept.

        The sha256 of what is kept are written into the passport.
        """
        assert passport.made is not None  # noqa: S101  # who makes a plan says how
        packed = _pack(reference) if reference is not None else None
        sums = {
            "plan_sha256": _sum(data),
            "cubin_sha256": _sum(cubin) if cubin is not None else None,
            "reference_sha256": _sum(packed) if packed is not None else None,
        }
        passport = passport.model_copy(update={"made": passport.made.model_copy(update=sums)})
        parts = {".plan": data, ".cubin": cubin, ".reference.npz": packed, ".json": _written(passport)}
        with self._saying_what_to_do(), self._locked():
            for stale in self.folder.glob("*.partial"):  # of a writer that was killed: the lock was let go
                stale.unlink(missing_ok=True)
            for suffix, content in parts.items():
                if content is None:
                    self.path(passport, suffix).unlink(missing_ok=True)
                else:
                    _replace(self.path(passport, suffix), content)
            self.path(passport, ".failed.json").unlink(missing_ok=True)
            self._forget_old()
        return Plan(self.path(passport), data, passport, cubin, reference)

    def keep_kernel(self, plan: Plan, cubin: bytes) -> Plan:
        """The plan with a kernel that was compiled after it: kept, if it can be and no other plan is there by now."""
        warnings = tuple(warning for warning in plan.made.warnings if not warning.startswith(NONE))
        kernel = {"cubin_sha256": _sum(cubin), "kernel": source_version(), "warnings": warnings}
        passport = plan.passport.model_copy(update={"made": plan.made.model_copy(update=kernel)})
        with contextlib.suppress(OSError), self._locked():
            there = self._read(passport)
            if isinstance(there, Plan) and there.made.plan_sha256 == plan.made.plan_sha256:
                _replace(self.path(passport, ".cubin"), cubin)
                _replace(self.path(passport, ".json"), _written(passport))
        return replace(plan, passport=passport, cubin=cubin)

    def discard(self, passport: Passport, reason: str) -> None:
        """Take a plan that does not load, or computes something else, out of use; it is made anew when next wanted."""
        path = str(self.path(passport))
        log.warning("%s: it is not used any more", reason if path in reason else f"{path}: {reason}")
        with contextlib.suppress(OSError), self._locked():
            self._remove(passport)

    def failed(self, passport: Passport, driver: str = "") -> str | None:
        """Why making this plan failed last time; None if it is worth trying: other key, or another driver since."""
        try:
            said = json.loads(self.path(passport, ".failed.json").read_bytes())
            reason, when, with_driver = said["reason"], said["when"], said["driver"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not isinstance(reason, str) or not isinstance(when, str) or with_driver != driver:
            return None
        until = "until model, settings, TensorRT or driver change, or by `sightwire build --again`"
        return f"{reason} (tried {when}, not again {until})"

    def fail(self, passport: Passport, reason: str, driver: str = "") -> None:
        """Note that making this plan failed, so that it is not tried at every start."""
        said = {"reason": reason, "when": now(), "driver": driver, "passport": passport.model_dump(mode="json")}
        with contextlib.suppress(OSError), self._locked():
            self._remove(passport)
            _replace(self.path(passport, ".failed.json"), json.dumps(said, indent=1).encode())

    def forget(self, passport: Passport) -> None:
        """Have neither plan nor failure any more: the next who wants it makes it."""
        with contextlib.suppress(OSError), self._locked():
            self._remove(passport)
            self.path(passport, ".failed.json").unlink(missing_ok=True)

    def timing_cache(self, passport: Passport) -> bytes:
        """How long TensorRT found each of a network's steps to take: building again is quicker. Empty: none yet."""
        path = self._timing_path(passport)
        try:
            content = path.read_bytes()
        except OSError:
            return b""
        digest, data = content[:32], content[32:]
        if hashlib.sha256(data).digest() == digest:
            return data
        log.warning("%s: is cut short or altered: it is not used, and made anew", path)
        with contextlib.suppress(OSError):
            path.unlink()
        return b""

    def keep_timing_cache(self, passport: Passport, data: bytes) -> None:
        """Keep it for the next plan of this TensorRT on this GPU; where that cannot be, building takes longer."""
        with contextlib.suppress(OSError), self._locked():
            _replace(self._timing_path(passport), hashlib.sha256(data).digest() + data)

    @contextlib.contextmanager
    def making(self, stopped: Callable[[], bool], waiting: Callable[[], None]) -> Iterator[bool]:
        """Hold the right to make plans here, which one process has at a time; False if `stopped` before it came.

        `waiting` is called once if another process has it. Raises NotKept.
        """
        with self._saying_what_to_do():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".making").open("ab")
        with lock:
            told = False
            while not stopped():
                with self._saying_what_to_do():  # some network file systems have no locks
                    ours = _is_ours(lock)
                if ours:
                    yield True
                    return
                if not told:
                    waiting()
                    told = True
                time.sleep(_POLL_S)
            yield False

    def _read(self, passport: Passport) -> Plan | str | None:
        """The plan; or what is wrong with it; None if it is not there."""
        path = self.path(passport)
        try:
            written = read_passport(path.with_suffix(".json").read_bytes())
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if written is None or written.made is None or written.key != passport.key:
            return "its passport is damaged or of another plan"
        if _sum(data) != written.made.plan_sha256:
            return "is cut short or altered (sha256)"
        current = written.made.kernel == source_version()  # that of an earlier version of ours is not for this one
        cubin = self._part(passport, ".cubin", written.made.cubin_sha256) if current else None
        packed = self._part(passport, ".reference.npz", written.made.reference_sha256)
        return Plan(path, data, written, cubin, _unpack(packed) if packed is not None else None)

    def _part(self, passport: Passport, suffix: str, sha256: str | None) -> bytes | None:
        """A file beside the plan that it can do without; None unless it is the one that was written."""
        if sha256 is None:
            return None
        path = self.path(passport, suffix)
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if _sum(content) == sha256:
            return content
        log.warning("%s: is missing, cut short or altered: it is not used", path)
        return None

    def _remove(self, passport: Passport) -> None:
        for suffix in _PARTS:
            self.path(passport, suffix).unlink(missing_ok=True)

    def _forget_old(self) -> None:
        """Of this model file; a key is 16 digits, so that other files' plans do not match."""
        passports = self.folder.glob(f"{_literal(self.model.stem)}-{'[0-9a-f]' * 16}.json")
        for old in sorted(passports, key=os.path.getmtime)[:-_KEPT]:
            for suffix in _PARTS:
                old.with_name(f"{old.stem}{suffix}").unlink(missing_ok=True)

    def _timing_path(self, passport: Passport) -> Path:
        name = f"{passport.flavour}-{passport.version}-{passport.compute_capability}"
        return self.folder / f"{name.replace(' ', '_')}.timing"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The only writer of this folder. Raises OSError where nothing can be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _saying_what_to_do(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotKept(
                f"{self.folder}: plans cannot be kept here ({error.strerror or error}): make it writable, or make them "
                "elsewhere (sightwire build MODEL --out DIR) and copy them to this place"
            ) from None


def now() -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _written(passport: Passport) -> bytes:
    return passport.model_dump_json(indent=1).encode()


def _is_ours(lock: IO[bytes]) -> bool:
    """Take the lock, unless another process has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, content: bytes) -> None:
    """All of it, or what was there before."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:  # half a plan would fill up a full disk
        partial.unlink(missing_ok=True)
        raise


def _literal(text: str) -> str:
    """For a glob."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _pack(reference: Reference) -> bytes:
    stream = io.BytesIO()
    arrays = {f"output.{name}": array for name, array in reference.outputs.items()}
    np.savez_compressed(stream, limit=reference.limit, ranked=reference.ranked, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _unpack(packed: bytes) -> Reference | None:
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            named = {name.removeprefix("output."): arrays[name] for name in arrays.files if name.startswith("output.")}
            return Reference(named, float(arrays["limit"]), bool(arrays["ranked"]))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
