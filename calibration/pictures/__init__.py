"""Pictures to calibrate and to prove with: in the pixels that cameras deliver, each once, in two disjoint parts.

    found = distinct(from_folder(folder, "i420"))
    parts = split(found.kept, held_out=0.5)
    enough(parts, calibration=100, held_out=100)
    tensor(parts.calibration[0], card.input)

Nothing here holds more than one decoded picture a thread, and nothing depends on names or on the order of files.
"""

from calibration.pictures.duplicates import Distinct, distinct
from calibration.pictures.folder import from_files, from_folder
from calibration.pictures.frames import from_frames
from calibration.pictures.parts import Split, enough, limited, set_hash, split
from calibration.pictures.sample import Progress, Sample, Way
from calibration.pictures.tensors import tensor
from calibration.pictures.ways import in_way

__all__ = [
    "Distinct",
    "Progress",
    "Sample",
    "Split",
    "Way",
    "distinct",
    "enough",
    "from_files",
    "from_folder",
    "from_frames",
    "in_way",
    "limited",
    "set_hash",
    "split",
    "tensor",
]
