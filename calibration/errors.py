"""What can go wrong while calibrating.

CalibrationError
├── DatasetError       a picture or a list of labels that cannot be used
│   └── TooFewPictures fewer than a method needs
└── MissingExtra       a package of the `calibrate` extra is not installed
"""


class CalibrationError(Exception):
    """Base of everything `calibration` raises on purpose."""


class DatasetError(CalibrationError):
    """A picture, a folder or a list of labels cannot be used."""


class TooFewPictures(DatasetError):
    """A set has fewer pictures than what is to be done with them needs; the message says how many are missing."""


class MissingExtra(CalibrationError):  # reads as what it is
    """A package of the `calibrate` extra is not installed."""
