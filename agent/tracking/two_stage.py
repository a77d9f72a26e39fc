"""Strong detections are matched first, then weak ones with what is left (ByteTrack: Zhang et al. 2022, in seconds)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.tracking import Tracked, Tracker
from agent.tracking.matching import overlap, pair
from agent.tracking.motion import Motion
from engines.results import Detections

_NEAR = 0.15
_NEAR_WEAK = 0.3
_OTHER_LABEL = 0.6
_TAKEN = 0.8
_DOUBT = 1.0
_MOST_DOUBT = 0.5
_REMEMBERED_S = 1.0
_JOINT = True
_FUSE = True
_RECENT = 0.0
_TIE = np.array([1.0, 0.7548776662, 0.5698402910, 0.4301597090])


@dataclass(frozen=True)
class Thresholds:
    reported: NDArray[np.float32]
    strong: NDArray[np.float32]
    weak: NDArray[np.float32]
    new: NDArray[np.float32]


class TwoStage(Tracker):
    """Follows the objects of one camera: one column a property, one row a track, no objects of our own."""

    def __init__(
        self,
        thresholds: Thresholds,
        followed: NDArray[np.bool_],
        *,
        confirm_s: float,
        lost_s: float,
    ) -> None:
        self._thresholds = thresholds
        self._followed = followed
        self._one_label = followed.sum() == 1
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
        self._label = np.empty(0, np.int32)
        self._certain = np.empty(0, np.float64)
        self._votes = np.empty((0, len(self._followed)), np.float64)

    def update(self, found: Detections, at_ns: int) -> Tracked:
        """See Tracker."""
        if self._at_ns is not None:
            at_ns = max(at_ns, self._at_ns)  # a clock that is set back stands still
        before_ns = self._at_ns if self._at_ns is not None else at_ns
        self._at_ns = at_ns
        wanted = self._followed[found.label] & (found.score >= self._thresholds.weak[found.label])
        rows = wanted.nonzero()[0]
        score, label, boxes = found.score[rows], found.label[rows], found.xyxy[rows].astype(np.float64)
        of_row = np.full(len(rows), -1, np.intp)
        if len(self._id):
            self._motion.predict((at_ns - before_ns) / 1e9)
            if len(rows):
                of_row = self._match(boxes, score, label, before_ns)
                self._correct(of_row, boxes, score, label, at_ns)
        self._begin(of_row, boxes, score, label, at_ns)
        kept = self._drop(at_ns)
        if kept is not None:
            of_row = np.where(of_row >= 0, kept[of_row], -1)
        return self._tell(found, rows, of_row)

    def _match(self, boxes, score, label, before_ns) -> NDArray[np.intp]:
        expected, area = self._motion.xyxy, self._motion.area
        margin = np.sqrt(np.minimum(_DOUBT**2 * self._motion.doubt, _MOST_DOUBT**2 * area))
        near = overlap(expected, boxes, margin)
        strong = score >= self._thresholds.strong[label]
        recent = self._at_ns - self._seen_ns <= _RECENT * 1e9 + (self._at_ns - before_ns)
        state = np.where(self._id > 0, recent, 2).astype(np.intp)  # 0 hidden, 1 recent, 2 tentative
        kind = state[:, None], strong.astype(np.intp)
        least = np.array([[9, _NEAR], [_NEAR_WEAK, _NEAR], [9, _NEAR]])[kind]
        tier = np.array([[0, 20], [10, 20], [0, 20 if _JOINT else 5]])[kind]
        if not self._one_label:
            other = self._label[:, None] != label
            least = np.where(other, np.where(strong, _OTHER_LABEL, 9), least)
            tier = np.where(other, 1, tier)
        gain = (near * score if _FUSE else near) + tier
        gain[near < least] = 0
        return pair(gain, boxes @ _TIE)

    def _correct(self, of_row, boxes, score, label, at_ns) -> None:
        seen = (of_row >= 0).nonzero()[0]
        tracks = of_row[seen]
        self._motion.correct(tracks, boxes[seen])
        since_s = (at_ns - self._seen_ns[tracks]) * 1e-9
        certain = self._certain[tracks]
        self._certain[tracks] = certain + (1 - np.exp(-since_s / _REMEMBERED_S)) * (score[seen] - certain)
        self._seen_ns[tracks] = at_ns
        if not self._one_label:
            self._votes[tracks, label[seen]] += score[seen]
            self._label[tracks] = self._votes[tracks].argmax(axis=1)
        unnamed = tracks[self._id[tracks] == 0]
        if len(unnamed):
            self._name(unnamed[at_ns - self._born_ns[unnamed] >= self._confirm_ns])

    def _begin(self, of_row, boxes, score, label, at_ns) -> None:
        new = ((of_row < 0) & (score >= self._thresholds.strong[label])).nonzero()[0]
        if not len(new):
            return
        old = boxes[of_row >= 0]
        if len(old):
            new = new[overlap(old, boxes[new], np.zeros(len(old))).max(axis=0) < _TAKEN]
        new = new[np.argsort(boxes[new] @ _TIE)]
        of_row[new] = len(self._id) + np.arange(len(new))
        self._motion.add(boxes[new])
        votes = np.zeros((len(new), len(self._followed)))
        votes[np.arange(len(new)), label[new]] = score[new]
        now = np.full(len(new), at_ns)
        self._votes = np.concatenate((self._votes, votes))
        self._id = np.concatenate((self._id, np.zeros_like(now)))
        self._born_ns = np.concatenate((self._born_ns, now))
        self._seen_ns = np.concatenate((self._seen_ns, now))
        self._label = np.concatenate((self._label, label[new]))
        self._certain = np.concatenate((self._certain, score[new]))
        if not self._confirm_ns:
            self._name(of_row[new])

    def _name(self, tracks: NDArray[np.intp]) -> None:
        tracks = np.sort(tracks[self._certain[tracks] >= self._thresholds.new[self._label[tracks]]])
        self._id[tracks] = np.arange(self._next_id, self._next_id + len(tracks))
        self._next_id += len(tracks)

    def _drop(self, at_ns: int) -> NDArray[np.intp] | None:
        unseen = at_ns - self._seen_ns
        keep = unseen < np.where(self._id > 0, self._lost_ns, self._confirm_ns)
        keep |= unseen == 0
        if keep.all():
            return None
        self._motion.keep(keep)
        self._id, self._born_ns, self._seen_ns = self._id[keep], self._born_ns[keep], self._seen_ns[keep]
        self._label, self._certain, self._votes = self._label[keep], self._certain[keep], self._votes[keep]
        return np.cumsum(keep) - 1

    def _tell(self, found: Detections, rows: NDArray[np.intp], of_row: NDArray[np.intp]) -> Tracked:
        track = np.zeros(len(found), np.int64)
        velocity = np.zeros((len(found), 4), np.float32)
        label = found.label
        seen = of_row >= 0
        tracks, where = of_row[seen], rows[seen]
        ids = self._id[tracks]
        named = ids > 0
        tracks, where = tracks[named], where[named]
        track[where] = ids[named]
        velocity[where] = self._motion.velocity(tracks)
        if not self._one_label:
            label = label.copy()
            label[where] = self._label[tracks]
        told = ((track > 0) | (found.score >= self._thresholds.reported[found.label])).nonzero()[0]
        return Tracked(
            Detections(xyxy=found.xyxy[told], score=found.score[told], label=label[told]),
            track[told],
            velocity[told],
            tuple(self._id[self._id > 0].tolist()),
        )
