"""Where boxes will be: a Kalman filter for each track, all of them at once.

Centre and size move with a velocity that fades in time constants of their own (an Ornstein-Uhlenbeck process driven by
white noise), so that what is predicted over a gap does not depend on how many frames fell into it. All noise is in
shares of the box's own size, because near objects move and wobble over more pixels than far ones. The four coordinates
do not depend on each other: a state is four times a place, a speed, and the three numbers of their covariance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of (centre x, centre y, width, height):
_FADES_S = np.array([5.0, 5.0, 1.0, 1.0])
"""Time constants of the velocities: what left its way is not where its last velocity would have taken it."""
_PUSH = np.array([0.06, 0.06, 0.1, 0.1])
"""Spectral density of the acceleration, box sizes² a second³."""
_WOBBLE = np.array([0.05, 0.05, 0.15, 0.15]) ** 2
"""Variance of a detector's boxes, box sizes²."""
_FIRST_SPEED = np.array([0.5, 0.5, 0.1, 0.1]) ** 2
"""Variance of the velocity of what is seen for the first time, (box sizes a second)²."""

_PLACE, _SPEED, _VARIANCE, _BOTH, _SPREAD = range(5)
"""Parts of the state: place, speed, the place's variance, its covariance with the speed, the speed's variance."""
_MEAN, _GAINS = slice(_PLACE, _SPEED + 1), slice(_VARIANCE, _BOTH + 1)
_TO_CENTRE = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])
_TO_EDGES = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])


class Motion:
    """The state of M tracks."""

    def __init__(self) -> None:
        self._state: Floats = np.empty((0, 5, 4))
        self._step_s = -1.0
        self._transition = np.zeros((20, 20))
        """Of a state, as one row, to the next one..."""
        self._from_to = np.einsum("iaja->ija", self._transition.reshape(5, 4, 5, 4))
        """... and a view of it, (from part, to part, 4): no coordinate depends on another."""
        self._from_to[_PLACE, _PLACE] = self._from_to[_VARIANCE, _VARIANCE] = 1
        self._noise = np.zeros((5, 4))

    def __len__(self) -> int:
        return len(self._state)

    @property
    def xyxy(self) -> Floats:
        """(M, 4) left, top, right, bottom, pixels."""
        edges: Floats = self._state[:, _PLACE] @ _TO_EDGES
        return edges

    @property
    def area(self) -> Floats:
        """(M,) pixels²."""
        return _area(self._state[:, _PLACE])

    @property
    def doubt(self) -> Floats:
        """(M,) variance of the centre, pixels²."""
        return self._state[:, _VARIANCE, 0]

    def velocity(self, tracks: NDArray[np.intp]) -> Floats:
        """(K, 4) of the edges of those tracks, pixels a second."""
        edges: Floats = self._state[tracks, _SPEED] @ _TO_EDGES
        return edges

    def predict(self, dt_s: float) -> None:
        """Move all tracks on in time."""
        if dt_s != self._step_s:
            self._prepare(dt_s)
        moved = self._state.reshape(-1, 20) @ self._transition
        self._state = moved.reshape(-1, 5, 4) + self.area[:, None, None] * self._noise

    def _prepare(self, dt_s: float) -> None:
        """The step's linear map of a state, and what the step adds to it."""
        stays = np.exp(-dt_s / _FADES_S)
        reach = _FADES_S * (1 - stays)
        step = self._from_to
        step[_SPEED, _PLACE], step[_SPEED, _SPEED] = reach, stays
        step[_BOTH, _VARIANCE], step[_SPREAD, _VARIANCE] = 2 * reach, reach * reach
        step[_BOTH, _BOTH], step[_SPREAD, _BOTH] = stays, stays * reach
        step[_SPREAD, _SPREAD] = stays * stays
        noise = self._noise
        noise[_SPREAD] = _PUSH * _FADES_S / 2 * (1 - stays * stays)
        noise[_BOTH] = _PUSH * reach * reach / 2
        noise[_VARIANCE] = _PUSH * _FADES_S**2 * (dt_s - reach) - _FADES_S * noise[_BOTH]
        self._step_s = dt_s

    def correct(self, tracks: NDArray[np.intp], xyxy: Floats) -> None:
        """Those tracks were seen at those boxes, (K, 4)."""
        state = self._state[tracks]
        doubt = state[:, _VARIANCE] + _area(state[:, _PLACE])[:, None] * _WOBBLE
        gains = state[:, _GAINS] / doubt[:, None]  # of the place, and of the speed
        missed = xyxy @ _TO_CENTRE - state[:, _PLACE]
        state[:, _MEAN] += gains * missed[:, None]
        state[:, _SPREAD] -= gains[:, 1] * state[:, _BOTH]
        state[:, _GAINS] *= 1 - gains[:, :1]
        self._state[tracks] = state

    def add(self, xyxy: Floats) -> None:
        """New tracks after the others, seen for the first time at those boxes, (K, 4)."""
        fresh = np.zeros((len(xyxy), 5, 4))
        fresh[:, _PLACE] = xyxy @ _TO_CENTRE
        area = _area(fresh[:, _PLACE])[:, None]
        fresh[:, _VARIANCE], fresh[:, _SPREAD] = area * _WOBBLE, area * _FIRST_SPEED
        self._state = np.concatenate((self._state, fresh))

    def keep(self, tracks: NDArray[np.bool_]) -> None:
        """Forget all other tracks."""
        self._state = self._state[tracks]


def _area(place: Floats) -> Floats:
    """(M,) pixels² of places (M, 4)."""
    area: Floats = np.maximum(place[:, 2] * place[:, 3], 1.0)
    return area
