"""Where boxes will be: a Kalman filter for each track, all of them at once.

Centre and size move with a velocity that fades in time constants of their own (an Ornstein-Uhlenbeck process driven by
white noise), so that what is predicted over a gap does not depend on how many frames fell into it. All noise is in
shares of the box's own size, because near objects move and wobble over more pixels than far ones. Within a track x and
y share one covariance, and so do width and height: three numbers each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of (centre, size):
_FADES_S = np.array([2.0, 0.5])
"""Time constants of the velocities: what left its way is not where its last velocity would have taken it."""
_PUSH = np.array([0.4, 0.05])
"""Spectral density of the acceleration, box sizes² a second³."""
_WOBBLE = np.array([0.05, 0.1])
"""Standard deviation of a detector's boxes, box sizes."""
_FIRST_SPEED = np.array([0.5, 0.1])
"""Standard deviation of the velocity of what is seen for the first time, box sizes a second."""


class Motion:
    """The state of M tracks, columns with a row for each of them."""

    def __init__(self) -> None:
        self._place: Floats = np.empty((0, 2, 2))
        """(M, 2, 2) centre x, y and width, height, pixels."""
        self._speed: Floats = np.empty((0, 2, 2))
        """(M, 2, 2) of those, pixels a second."""
        self._cov: Floats = np.empty((3, 0, 2))
        """(3, M, 2) variance of the place, covariance, variance of the speed, each of centre and size."""

    def __len__(self) -> int:
        return len(self._place)

    @property
    def xyxy(self) -> Floats:
        """(M, 4) left, top, right, bottom, pixels."""
        return _edges(self._place)

    @property
    def velocity(self) -> Floats:
        """(M, 4) of the edges, pixels a second."""
        return _edges(self._speed)

    @property
    def doubt(self) -> Floats:
        """(M,) standard deviation of the centre, pixels."""
        return np.sqrt(self._cov[0, :, 0])

    def predict(self, dt_s: float) -> None:
        """Move all tracks on in time."""
        stays = np.exp(-dt_s / _FADES_S)
        reach = _FADES_S * (1 - stays)
        push = _PUSH * self._scale()[:, None] ** 2
        place, both, speed = self._cov
        self._cov = np.stack(
            (
                place + 2 * reach * both + reach**2 * speed + push * dt_s**3 / 3,
                stays * (both + reach * speed) + push * dt_s**2 / 2,
                stays**2 * speed + push * dt_s,
            )
        )
        self._place = self._place + self._speed * reach[:, None]
        np.maximum(self._place[:, 1], 1.0, out=self._place[:, 1])
        self._speed = self._speed * stays[:, None]

    def correct(self, rows: NDArray[np.intp], xyxy: Floats) -> None:
        """Tracks `rows` were seen at those boxes, (K, 4)."""
        place, both, speed = self._cov[:, rows]
        gain = 1 / (place + (_WOBBLE * self._scale()[rows, None]) ** 2)
        missed = _centre(xyxy) - self._place[rows]
        self._place[rows] += (place * gain)[:, :, None] * missed
        self._speed[rows] += (both * gain)[:, :, None] * missed
        self._cov[:, rows] = np.stack((place, both, speed)) - np.stack((place, both, both)) * gain * np.stack(
            (place, place, both)
        )

    def add(self, xyxy: Floats) -> None:
        """New tracks after the others, seen for the first time at those boxes, (K, 4)."""
        fresh = _centre(xyxy)
        scale = np.sqrt(fresh[:, 1, 0] * fresh[:, 1, 1])[:, None]
        start = np.stack(((_WOBBLE * scale) ** 2, np.zeros((len(fresh), 2)), (_FIRST_SPEED * scale) ** 2))
        self._place = np.concatenate((self._place, fresh))
        self._speed = np.concatenate((self._speed, np.zeros_like(fresh)))
        self._cov = np.concatenate((self._cov, start), axis=1)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget all other tracks."""
        self._place, self._speed, self._cov = self._place[rows], self._speed[rows], self._cov[:, rows]

    def _scale(self) -> Floats:
        """(M,) size of each box, pixels: the side of a square of its area."""
        return np.sqrt(self._place[:, 1, 0] * self._place[:, 1, 1])


def _centre(xyxy: Floats) -> Floats:
    """(K, 4) edges -> (K, 2, 2) centre and size."""
    low, high = xyxy[:, :2], xyxy[:, 2:]
    return np.stack(((low + high) / 2, np.maximum(high - low, 1.0)), axis=1)


def _edges(place: Floats) -> Floats:
    """(K, 2, 2) centre and size, or their velocities -> (K, 4) of the edges."""
    half = place[:, 1] / 2
    return np.concatenate((place[:, 0] - half, place[:, 0] + half), axis=1)
