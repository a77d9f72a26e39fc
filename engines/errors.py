"""What can go wrong with a model or an engine.

EngineError
├── CardError          a model card that cannot be read, or that its files do not fit
├── ModelFileError     a model file that is missing, cut short, altered or not what its card says
│   └── LintError      an INT8 graph that some backend would misread
├── FetchError         a download that failed or whose sha256 is wrong
├── BackendError       a backend that is absent, or that failed to build or to run
│   └── EngineLost     an engine that will never work again (its device is gone): another one has to take over
└── PictureError       pixels that cannot be prepared (wrong planes, unknown format)

Every message is one line: what happened, where, what to do.
"""

from engines.lines import printable


class EngineError(Exception):
    """Base of everything `engines` raises on purpose. Keys of a card, names of nodes in a file: a line stays one."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class CardError(EngineError):
    """A model card is unreadable, or the model does not fit it."""


class ModelFileError(EngineError):
    """A model file is missing, cut short, altered or not what its card says."""


class LintError(ModelFileError):
    """An INT8 graph has a construct that a backend would misread."""


class FetchError(EngineError):
    """A download failed, or its sha256 is not the expected one."""


class BackendError(EngineError):
    """A backend is absent, or failed to build or run an engine."""


class EngineLost(BackendError):
    """An engine that will not work again, whatever it is asked: its device is gone, or its context is broken."""


class PictureError(EngineError):
    """Pixels that cannot be turned into a tensor."""


def first_line(error: Exception, most: int | None = None) -> str:
    """What a library's exception says first, up to `most` characters; where it says nothing, what it is."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]
