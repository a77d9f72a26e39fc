"""Strong detections are matched first, then weak ones with what is left (ByteTrack: Zhang et al. 2022, in seconds)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.tracking import Tracked, Tracker
from agent.tracking.matching import overlap, pair
from agent.tracking.motion import Motion
from engines.results import Detections

_NEAR = 0.15
"""Least overlap of a strong detection with the place where a track should be."""
_NEAR_WEAK = 0.3
"""The same of a weak one: it is more often a shadow."""
_OTHER_LABEL = 0.6
"""The same of a detection of another label: only what is in the same place may be the same object."""
_TAKEN = 0.8
"""Overlap with an object that was just found, over which a detection is that object once more, by another name."""
_DOUBT = 1.0
"""Boxes grow by so many standard deviations of where a track should be before they are compared..."""
_MOST_DOUBT = 0.5
"""... but by no more than this share of their size."""


class TwoStage(Tracker):
    """Follows the objects of one camera: one column a property, one row a track, no objects of our own."""

    def __init__(
        self,
        *,
        reported: NDArray[np.float32],
        strong: NDArray[np.float32],
        weak: NDArray[np.float32],
        new: NDArray[np.float32],
        followed: NDArray[np.bool_],
        confirm_s: float,
        lost_s: float,
    ) -> None:
        """All by label, (C,): least score without a track, of strong and weak detections, and of a track's first."""
        self._reported, self._strong, self._weak, self._new = reported, strong, weak, new
        self._followed = followed
        self._confirm_ns, self._lost_ns = round(confirm_s * 1e9), round(lost_s * 1e9)
        self._next_id = 1
        self._start()

    def forget(self) -> None:
        """See Tracker."""
        self._start()

    def _start(self) -> None:
        self._motion = Motion()
        self._at_ns: int | None = None
        self._id = np.empty(0, np.int64)
        self._born_ns = np.empty(0, np.int64)
        self._seen_ns = np.empty(0, np.int64)
        self._votes = np.empty((0, len(self._followed)), np.float64)

    def update(self, found: Detections, at_ns: int) -> Tracked:
        """See Tracker."""
        rows = self._rows(found)
        score, label, boxes = found.score[rows], found.label[rows], found.xyxy[rows].astype(np.float64)
        if self._at_ns is not None:
            at_ns = max(at_ns, self._at_ns)  # a clock that is set back stands still
            self._motion.predict((at_ns - self._at_ns) / 1e9)
        before_ns, self._at_ns = self._at_ns, at_ns

        of_track = self._match(boxes, score, label, before_ns)
        seen = np.flatnonzero(of_track >= 0)
        self._motion.correct(of_track[seen], boxes[seen])
        self._seen_ns[of_track[seen]] = at_ns
        self._votes[of_track[seen], label[seen]] += score[seen]
        of_track = self._begin(of_track, boxes, score, label, at_ns)
        kept = self._drop(at_ns)
        of_track = np.where(of_track >= 0, kept[of_track], -1) if len(kept) else of_track
        return self._tell(found, rows, of_track)

    def _rows(self, found: Detections) -> NDArray[np.intp]:
        """What may be or become a track, in an order that depends on nothing but the rows themselves."""
        rows = np.flatnonzero(self._followed[found.label] & (found.score >= self._weak[found.label]))
        x, y = found.xyxy[rows, 0], found.xyxy[rows, 1]
        return rows[np.lexsort((found.xyxy[rows, 3], found.xyxy[rows, 2], y, x, found.label[rows], -found.score[rows]))]

    def _match(
        self, boxes: NDArray[np.float64], score: NDArray[np.float32], label: NDArray[np.int32], before_ns: int | None
    ) -> NDArray[np.intp]:
        """(N,) the track each row continues, -1 for none."""
        of_track = np.full(len(boxes), -1, np.intp)
        if not len(boxes) or not len(self._motion):
            return of_track
        expected = self._motion.xyxy
        side = np.sqrt((expected[:, 2] - expected[:, 0]) * (expected[:, 3] - expected[:, 1]))
        near = overlap(expected, boxes, np.minimum(_DOUBT * self._motion.doubt, _MOST_DOUBT * side))
        own = self._votes.argmax(axis=1)[:, None] == label
        strong = score >= self._strong[label]
        confirmed = self._id > 0
        recent = self._seen_ns == before_ns

        def stage(tracks: NDArray[np.bool_], rows: NDArray[np.bool_], least: float, same: bool) -> None:
            free = np.ones(len(confirmed), bool)
            free[of_track[of_track >= 0]] = False
            m, n = np.flatnonzero(tracks & free), np.flatnonzero(rows & (of_track < 0))
            if not len(m) or not len(n):
                return
            at = np.ix_(m, n)
            gain = near[at] * score[n]
            gain[(near[at] < least) | (own[at] != same)] = 0
            r, c = pair(gain)
            of_track[n[c]] = m[r]

        stage(confirmed, strong, _NEAR, True)
        stage(confirmed & recent, ~strong, _NEAR_WEAK, True)
        stage(~confirmed, strong, _NEAR, True)
        if len(self._followed) > 1:
            stage(confirmed, strong, _OTHER_LABEL, False)
        return of_track

    def _begin(
        self,
        of_track: NDArray[np.intp],
        boxes: NDArray[np.float64],
        score: NDArray[np.float32],
        label: NDArray[np.int32],
        at_ns: int,
    ) -> NDArray[np.intp]:
        """Confirm what has been seen for long enough, and begin a track at each strong detection that is left."""
        sure = (self._id == 0) & (self._seen_ns == at_ns) & (at_ns - self._born_ns >= self._confirm_ns)
        sure &= self._born_ns < at_ns
        self._name(sure)
        new = np.flatnonzero((of_track < 0) & (score >= self._new[label]))
        if len(new) and (of_track >= 0).any():
            new = new[overlap(boxes[of_track >= 0], boxes[new]).max(axis=0) < _TAKEN]
        if not len(new):
            return of_track
        of_track = of_track.copy()
        of_track[new] = len(self._motion) + np.arange(len(new))
        self._motion.add(boxes[new])
        votes = np.zeros((len(new), len(self._followed)))
        votes[np.arange(len(new)), label[new]] = score[new]
        self._votes = np.concatenate((self._votes, votes))
        self._id = np.concatenate((self._id, np.zeros(len(new), np.int64)))
        self._born_ns = np.concatenate((self._born_ns, np.full(len(new), at_ns)))
        self._seen_ns = np.concatenate((self._seen_ns, np.full(len(new), at_ns)))
        if not self._confirm_ns:
            self._name(self._id == 0)
        return of_track

    def _name(self, rows: NDArray[np.bool_]) -> None:
        count = int(rows.sum())
        self._id[rows] = np.arange(self._next_id, self._next_id + count)
        self._next_id += count

    def _drop(self, at_ns: int) -> NDArray[np.intp]:
        """Forget what has not been seen for too long; (M,) new index of each track, -1 for those."""
        unseen = at_ns - self._seen_ns
        keep = (unseen == 0) | (unseen < np.where(self._id > 0, self._lost_ns, self._confirm_ns))
        if keep.all():
            return np.arange(len(keep))
        self._motion.keep(keep)
        self._id, self._born_ns, self._seen_ns = self._id[keep], self._born_ns[keep], self._seen_ns[keep]
        self._votes = self._votes[keep]
        return np.where(keep, np.cumsum(keep) - 1, -1)

    def _tell(self, found: Detections, rows: NDArray[np.intp], of_track: NDArray[np.intp]) -> Tracked:
        """What is over its threshold, and what has a track."""
        track = np.zeros(len(found), np.int64)
        velocity = np.zeros((len(found), 4), np.float32)
        label = found.label
        seen = np.flatnonzero(of_track >= 0)
        if len(seen):
            followed = of_track[seen]
            track[rows[seen]] = self._id[followed]
            velocity[rows[seen]] = self._motion.velocity[followed]
            label = label.copy()
            label[rows[seen]] = self._votes[followed].argmax(axis=1)
        told = (track > 0) | (found.score >= self._reported[found.label])
        velocity[track == 0] = 0
        return Tracked(
            Detections(xyxy=found.xyxy[told], score=found.score[told], label=label[told]),
            track[told],
            velocity[told],
            tuple(self._id[self._id > 0].tolist()),
        )
