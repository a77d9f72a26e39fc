"""Strong detections are matched first, weak ones with what is left: ByteTrack (Zhang et al. 2022), in seconds.

| rank | tracks | detections |
|---|---|---|
| 1 | with an id | strong |
| 2 | with an id, seen a moment ago | weak: a blur, or somebody half hidden |
| 3 | without one yet | strong |
| 4 | with or without | strong, of another label, in the same place |

What is left of the strong ones begins a track, which has an id once it has been seen for long enough and the mean of
its scores is high enough: what looks a little like a person for hours never is one. It is followed all the same, after
a second as if it had an id, so that nobody who walks past it is taken to have stayed there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.tracking import Tracked, Tracker
from agent.tracking.ids import NextIds, counted
from agent.tracking.matching import overlap, pair
from agent.tracking.motion import Motion
from engines.results import Detections

# Measured by `scripts/prove tracking`.
_NEAR = 0.2
"""Least overlap of a detection with the place where a track should be..."""
_NEAR_IF_WEAK = 0.4
"""... of a weak one, which is a shadow more often..."""
_NEAR_IF_OTHER = 0.6
"""... and of another label: a car that is taken for a truck is in the same place, a rider's bicycle is not."""
_TAKEN = 0.8
"""Overlap with an object of this frame over which a detection is that object once more, by another name."""
_DOUBT = 1.0
"""Boxes are compared when they have grown by so many standard deviations of where the track should be..."""
_MOST_DOUBT = 0.5
"""... but by no more than this share of the box's size."""
_MOMENT_NS = 500_000_000
"""What was seen in this time, or in the last frame, may be continued by weak detections."""
_REMEMBERED_S = 1.0
"""Time constant of the mean score."""
_ESTABLISHED_NS = 1_000_000_000
"""What has been followed for so long is treated as if it had an id."""

_HIDDEN, _RECENT, _NAMELESS = 0, 1, 2
_NEVER = 9.0
_LEAST = np.array([[_NEVER, _NEAR], [_NEAR_IF_WEAK, _NEAR], [_NEVER, _NEAR]])
"""Least overlap of a track (hidden, recent, nameless) with a detection (weak, strong) of its label."""
_RANK = np.array([[0.0, 6.0], [4.0, 6.0], [0.0, 2.0]])
"""Added to the overlap, which is at most 1, so that best first is also rank by rank."""
_TIE = np.array([1.0, 0.7548776662, 0.5698402910, 0.4301597090])
"""Orders boxes by what they are and not by where they stand in the list."""


@dataclass(frozen=True)
class Thresholds:
    """Scores by label, (C,)."""

    strong: NDArray[np.float32]
    weak: NDArray[np.float32]
    new: NDArray[np.float32]
    """Least mean score of a track that gets an id."""


class _Rows(NamedTuple):
    """Detections that are followed, (K)."""

    boxes: NDArray[np.float64]
    score: NDArray[np.float32]
    label: NDArray[np.int32]
    strong: NDArray[np.bool_]


class TwoStage(Tracker):
    """Follows the objects of one camera: a column for each property, a row for each track."""

    def __init__(
        self,
        thresholds: Callable[[NDArray[np.float32]], Thresholds],
        reported: NDArray[np.float32],
        followed: NDArray[np.bool_],
        *,
        confirm_s: float,
        lost_s: float,
        ids: NextIds | None = None,
    ) -> None:
        """`thresholds` makes them from the scores that are `reported` without a track; `followed`: which labels.

        `ids`: where new ones come from; default: 1, 2, 3, ...
        """
        self._thresholds_from = thresholds
        self._followed, self._one_label = followed, np.count_nonzero(followed) == 1
        self._confirm_ns, self._lost_ns = round(confirm_s * 1e9), round(lost_s * 1e9)
        self._ids = ids or counted()
        self._reported = reported
        self._thresholds = thresholds(reported)
        self._start()

    def report_from(self, thresholds: NDArray[np.float32]) -> None:
        """See Tracker."""
        if thresholds is not self._reported:
            self._reported, self._thresholds = thresholds, self._thresholds_from(thresholds)

    def forget(self) -> None:
        """See Tracker."""
        self._start()

    def _start(self) -> None:
        self._motion = Motion()
        self._at_ns = 0
        self._id = np.empty(0, np.int64)
        """0 until there is one."""
        self._born_ns = np.empty(0, np.int64)
        self._seen_ns = np.empty(0, np.int64)
        self._label = np.empty(0, np.int32)
        self._score = np.empty(0, np.float64)
        """Mean of the last second or so."""
        self._votes = np.empty((0, len(self._followed)), np.float64)
        """(M, C) sum of the scores of each label."""

    def update(self, found: Detections, at_ns: int) -> Tracked:
        """See Tracker."""
        if not len(self._id):
            self._at_ns = at_ns
        step_ns = max(0, at_ns - self._at_ns)  # a clock that is set back stands still
        self._at_ns += step_ns
        wanted = (self._followed[found.label] & (found.score >= self._thresholds.weak[found.label])).nonzero()[0]
        score, label = found.score[wanted], found.label[wanted]
        strong = score >= self._thresholds.strong[label]
        rows = _Rows(found.xyxy[wanted].astype(np.float64), score, label, strong)
        track = np.full(len(wanted), -1, np.intp)
        if len(self._id):
            self._motion.predict(step_ns / 1e9)
            if len(wanted):
                track = self._match(rows, step_ns)
                self._continue(track, rows)
        self._begin(track, rows)
        self._drop(track)
        return self._tell(found, wanted, track)

    def _match(self, rows: _Rows, step_ns: int) -> NDArray[np.intp]:
        """(K,) the track that each row continues; -1: none."""
        doubt = np.minimum(_DOUBT**2 * self._motion.doubt, _MOST_DOUBT**2 * self._motion.area)
        near = overlap(self._motion.xyxy, rows.boxes, np.sqrt(doubt))
        recent = self._seen_ns >= self._at_ns - max(_MOMENT_NS, step_ns)
        state = np.where(self._known(), np.where(recent, _RECENT, _HIDDEN), _NAMELESS)
        kinds = 2 * state[:, None] + rows.strong
        least, rank = _LEAST.take(kinds), _RANK.take(kinds)
        if not self._one_label and (other := self._label[:, None] != rows.label).any():
            least = np.where(other, np.where(rows.strong, _NEAR_IF_OTHER, _NEVER), least)
            rank[other] = 0
        return pair(np.where(near >= least, near + rank, 0), rows.boxes @ _TIE)

    def _continue(self, track: NDArray[np.intp], rows: _Rows) -> None:
        """Each of these tracks was seen where its row is."""
        seen = (track >= 0).nonzero()[0]
        tracks, score = track[seen], rows.score[seen]
        self._motion.correct(tracks, rows.boxes[seen])
        since_s = (self._at_ns - self._seen_ns[tracks]) / 1e9
        before = self._score[tracks]
        self._score[tracks] = before + (1 - np.exp(-since_s / _REMEMBERED_S)) * (score - before)
        self._seen_ns[tracks] = self._at_ns
        if not self._one_label:
            self._votes[tracks, rows.label[seen]] += score
            self._label[tracks] = self._votes[tracks].argmax(axis=1)
        nameless = tracks[self._id[tracks] == 0]
        if len(nameless):
            self._name(nameless[self._at_ns - self._born_ns[nameless] >= self._confirm_ns])

    def _begin(self, track: NDArray[np.intp], rows: _Rows) -> None:
        """Begin a track at each strong row that continues none; `track` is told of it."""
        new = ((track < 0) & rows.strong).nonzero()[0]
        if not len(new):
            return
        new = new[np.lexsort((rows.boxes[new] @ _TIE, -rows.score[new]))]  # ids are given in this order
        known = rows.boxes[track >= 0]
        before = np.concatenate((known, rows.boxes[new]))
        same = overlap(before, rows.boxes[new], np.zeros(len(before)))
        new = new[np.triu(same, 1 - len(known)).max(axis=0) < _TAKEN]  # each is compared with what stands before it
        if not len(new):
            return
        track[new] = len(self._id) + np.arange(len(new))
        now, score, label = np.full(len(new), self._at_ns), rows.score[new], rows.label[new]
        votes = np.zeros((len(new), len(self._followed)))
        votes[np.arange(len(new)), label] = score
        self._motion.add(rows.boxes[new])
        self._id = np.concatenate((self._id, np.zeros_like(now)))
        self._born_ns, self._seen_ns = (np.concatenate((old, now)) for old in (self._born_ns, self._seen_ns))
        self._label = np.concatenate((self._label, label))
        self._score = np.concatenate((self._score, score))
        self._votes = np.concatenate((self._votes, votes))
        if not self._confirm_ns:
            self._name(track[new])

    def _name(self, tracks: NDArray[np.intp]) -> None:
        """Give those that are certain by now their ids."""
        certain = np.sort(tracks[self._score[tracks] >= self._thresholds.new[self._label[tracks]]])
        if len(certain):
            self._id[certain] = self._ids(len(certain))

    def _known(self) -> NDArray[np.bool_]:
        """(M,) what has an id, or has been there for long without looking enough like an object: a sign, a statue."""
        return (self._id > 0) | (self._seen_ns - self._born_ns >= _ESTABLISHED_NS)

    def _drop(self, track: NDArray[np.intp]) -> None:
        """Forget what has not been seen for too long, by this frame neither; `track` is told the new numbers."""
        unseen_ns = self._at_ns - self._seen_ns
        if unseen_ns.max(initial=0) < min(self._lost_ns, self._confirm_ns):
            return
        keep = unseen_ns < np.where(self._known(), self._lost_ns, self._confirm_ns)
        keep |= unseen_ns == 0
        if keep.all():
            return
        self._motion.keep(keep)
        self._id, self._born_ns, self._seen_ns = self._id[keep], self._born_ns[keep], self._seen_ns[keep]
        self._label, self._score, self._votes = self._label[keep], self._score[keep], self._votes[keep]
        seen = track >= 0
        track[seen] = (np.cumsum(keep) - 1)[track[seen]]

    def _tell(self, found: Detections, wanted: NDArray[np.intp], track: NDArray[np.intp]) -> Tracked:
        """What is over its threshold, and what has an id."""
        ids = np.zeros(len(found), np.int64)
        velocity = np.zeros((len(found), 4), np.float32)
        seen = (track >= 0).nonzero()[0]
        seen = seen[self._id[track[seen]] > 0]
        tracks, rows = track[seen], wanted[seen]
        ids[rows] = self._id[tracks]
        velocity[rows] = self._motion.velocity(tracks)
        label = found.label
        if not self._one_label and (label[rows] != self._label[tracks]).any():
            label = label.copy()
            label[rows] = self._label[tracks]
        told = ((ids > 0) | (found.score >= self._reported[found.label])).nonzero()[0]
        present = tuple(self._id[self._id > 0].tolist())
        if len(told) == len(found) and label is found.label:
            return Tracked(found, ids, velocity, present, told)
        shown = Detections(xyxy=found.xyxy[told], score=found.score[told], label=label[told])
        return Tracked(shown, ids[told], velocity[told], present, told)
