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

_PLACE, _SPEED, _VARIANCE, _BOTH, _SPREAD = (slice(start, start + 4) for start in range(0, 20, 4))
"""Columns of the state: place, speed, the place's variance, its covariance with the speed, the speed's variance."""
_ONE = np.ones(4)
_FROM, _TO = (
    np.array([part.start for part in parts])[:, None] + np.arange(4)
    for parts in (
        (_PLACE, _SPEED, _SPEED, _VARIANCE, _BOTH, _SPREAD, _BOTH, _SPREAD, _SPREAD),
        (_PLACE, _PLACE, _SPEED, _VARIANCE, _VARIANCE, _VARIANCE, _BOTH, _BOTH, _SPREAD),
    )
)
"""Where a step's map from state to state is not 0."""
_TO_CENTRE = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])
_TO_EDGES = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])


class Motion:
    """The state of M tracks."""

    def __init__(self) -> None:
        self._state: Floats = np.empty((0, 20))
        self._step_s = -1.0
        self._transition = np.zeros((20, 20))
        self._noise = np.zeros(20)

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
        area: Floats = np.maximum(self._state[:, 2] * self._state[:, 3], 1.0)
        return area

    @property
    def doubt(self) -> Floats:
        """(M,) variance of the centre, pixels²."""
        return self._state[:, _VARIANCE.start]

    def velocity(self, tracks: NDArray[np.intp]) -> Floats:
        """(K, 4) of the edges of those tracks, pixels a second."""
        edges: Floats = self._state[tracks, _SPEED] @ _TO_EDGES
        return edges

    def predict(self, dt_s: float) -> None:
        """Move all tracks on in time."""
        if dt_s != self._step_s:
            self._prepare(dt_s)
        self._state = self._state @ self._transition + self.area[:, None] * self._noise

    def _prepare(self, dt_s: float) -> None:
        """The step's linear map of a state, and what the step adds to it."""
        stays = np.exp(-dt_s / _FADES_S)
        reach = _FADES_S * (1 - stays)
        self._transition[_FROM, _TO] = (
            _ONE, reach, stays,
            _ONE, 2 * reach, reach * reach, stays, stays * reach, stays * stays,
        )  # fmt: skip
        noise = self._noise
        noise[_SPREAD] = _PUSH * _FADES_S / 2 * (1 - stays * stays)
        noise[_BOTH] = _PUSH * reach * reach / 2
        noise[_VARIANCE] = _PUSH * _FADES_S**2 * (dt_s - reach) - _FADES_S * noise[_BOTH]
        self._step_s = dt_s

    def correct(self, tracks: NDArray[np.intp], xyxy: Floats) -> None:
        """Those tracks were seen at those boxes, (K, 4)."""
        state = self._state[tracks]
        area = np.maximum(state[:, 2] * state[:, 3], 1.0)
        trust = 1 / (state[:, _VARIANCE] + area[:, None] * _WOBBLE)
        to_place, to_speed = state[:, _VARIANCE] * trust, state[:, _BOTH] * trust
        missed = xyxy @ _TO_CENTRE - state[:, _PLACE]
        state[:, _PLACE] += to_place * missed
        state[:, _SPEED] += to_speed * missed
        state[:, _SPREAD] -= to_speed * state[:, _BOTH]
        rest = 1 - to_place
        state[:, _VARIANCE] *= rest
        state[:, _BOTH] *= rest
        self._state[tracks] = state

    def add(self, xyxy: Floats) -> None:
        """New tracks after the others, seen for the first time at those boxes, (K, 4)."""
        fresh = np.zeros((len(xyxy), 20))
        fresh[:, _PLACE] = xyxy @ _TO_CENTRE
        area = np.maximum(fresh[:, 2] * fresh[:, 3], 1.0)[:, None]
        fresh[:, _VARIANCE], fresh[:, _SPREAD] = area * _WOBBLE, area * _FIRST_SPEED
        self._state = np.concatenate((self._state, fresh))

    def keep(self, tracks: NDArray[np.bool_]) -> None:
        """Forget all other tracks."""
        self._state = self._state[tracks]
