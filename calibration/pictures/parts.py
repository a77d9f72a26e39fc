"""Which pictures calibrate and which prove: by what is in them, so that every run divides them alike."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from calibration.errors import TooFewPictures
from calibration.pictures.sample import Sample


@dataclass(frozen=True)
class Split:
    """Two parts of a set that share no picture, each in the order of digests."""

    calibration: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    share: float
    """Of the pictures that are held out, on average."""


def split(samples: Sequence[Sample], held_out: float, salt: str = "") -> Split:
    """Divide pictures by their digests, the share `held_out` (0 to 1) of them held out.

    The side of a picture depends on nothing but its content: neither on names nor on order nor on the other pictures,
    so a set that grows keeps its parts, and the parts of a small set only come near to the share. Near duplicates
    would come apart: give it what `distinct` kept. A part that is to be divided again needs another `salt`: by the
    same, all of it would be on one side.
    """
    limit = round(held_out * 2**64)
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in _ordered(samples):
        # Hashed once more: `limited` has taken the lowest digests.
        place = int.from_bytes(hashlib.sha256((salt + sample.digest).encode()).digest()[:8], "big")
        parts[place < limit].append(sample)
    return Split(tuple(parts[0]), tuple(parts[1]), held_out)


def limited(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` of the pictures, those of the lowest digests: a fair choice that names cannot change."""
    return _ordered(samples)[:count]


def enough(parts: Split, calibration: int, held_out: int) -> None:
    """Raise TooFewPictures unless so many calibrate and so many are held out; it says how many are missing."""
    needs = (
        ("calibrate", len(parts.calibration), calibration, 1 - parts.share),
        ("are held out", len(parts.held_out), held_out, parts.share),
    )
    short = [(use, have, need, share) for use, have, need, share in needs if have < need]
    if not short:
        return
    more = max(math.ceil((need - have) / share) if share else need - have for _, have, need, share in short)
    said = " and ".join(f"{have} {use} instead of {need}, {need - have} missing" for use, have, need, _ in short)
    raise TooFewPictures(f"too few different pictures: {said}; add about {more} that differ from these")


def set_hash(samples: Sequence[Sample]) -> str:
    """sha256 over the digests, sorted: names and order do not matter."""
    return hashlib.sha256("".join(sorted(sample.digest for sample in samples)).encode()).hexdigest()


def _ordered(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: (sample.digest, sample.name))
