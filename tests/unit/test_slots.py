"""Pictures in shared memory, both ends of it in one process."""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Iterator

import numpy as np
import pytest

from agent.sources._isolated.slots import HEADER, MOST_LENT, MOST_SLOTS, Reader, Writer
from agent.sources.synthetic import picture
from engines.pixels import Image, PixelFormat, Plane


class Both:
    """A writer, and a reader that is told of what it writes."""

    def __init__(self) -> None:
        self.writer, self.reader = Writer(), Reader()
        self.files = 0

    def pass_on(self, image: Image) -> tuple[Plane, ...] | None:
        """What the reader sees of a picture; None where there was no slot."""
        place = self.writer.put(image)
        if place is None:
            return None
        number, fd = place
        if fd is not None:
            self.files += 1
            self.reader.add(number, fd, HEADER + sum(plane.nbytes for plane in image.planes))
            os.close(fd)
        return self.reader.take(number, [plane.shape for plane in image.planes])


@pytest.fixture
def both() -> Iterator[Both]:
    gc.disable()  # what refers to pictures is let go of by name, not now and then
    yield Both()
    gc.enable()


def numbered(number: int, width: int = 320, pixels: PixelFormat = "i420") -> Image:
    return picture(number, width, 48, pixels)


@pytest.mark.parametrize("pixels", ["i420", "nv12", "bgr", "rgb", "gray"])
def test_a_picture_arrives_as_it_was(both: Both, pixels: PixelFormat) -> None:
    """Bit for bit, also one whose rows are padded."""
    wide = numbered(5, 640, pixels)
    for image in (wide, wide.cropped((2, 2, 301, 47))):
        planes = both.pass_on(image)
        assert planes is not None
        for plane, there in zip(image.planes, planes, strict=True):
            np.testing.assert_array_equal(plane, there)


def test_a_slot_is_used_again_when_nothing_refers_to_its_picture(both: Both) -> None:
    """Not even a part of one of its planes."""
    planes = both.pass_on(numbered(1))
    assert planes is not None
    part = planes[0][4:8, ::2]
    kept = part.copy()
    del planes
    for number in range(20):
        both.pass_on(numbered(number))
    assert both.files == 2
    np.testing.assert_array_equal(part, kept)
    del part
    first = both.pass_on(numbered(3))
    second = both.pass_on(numbered(4))
    assert first is not None
    assert second is not None
    assert both.files == 2


def test_who_keeps_many_pictures_keeps_copies_of_the_later_ones(both: Both) -> None:
    """So they cannot stop those that follow."""
    images = [numbered(number) for number in range(4 * MOST_SLOTS)]
    kept = [both.pass_on(image) for image in images]
    assert both.files == MOST_LENT + 1
    for image, planes in zip(images, kept, strict=True):
        assert planes is not None
        np.testing.assert_array_equal(image.planes[0], planes[0])


def test_where_nobody_takes_pictures_there_is_no_room_for_more() -> None:
    """And none is asked for."""
    writer = Writer()
    for number in range(MOST_SLOTS):
        place = writer.put(numbered(number))
        assert place is not None
        assert place[1] is not None
        os.close(place[1])
    assert writer.put(numbered(0)) is None
    writer.take_back(3)
    assert writer.put(numbered(0)) == (3, None)


def test_a_stream_that_changes_its_size_gets_other_slots(both: Both) -> None:
    """Those of the old size go; pictures that are still looked at stay."""
    before = both.pass_on(numbered(1))
    assert before is not None
    for number in range(2 * MOST_SLOTS):
        planes = both.pass_on(numbered(number, 640 if number % 2 else 480))
        assert planes is not None
        np.testing.assert_array_equal(planes[0], numbered(number, 640 if number % 2 else 480).planes[0])
    np.testing.assert_array_equal(before[0], numbered(1).planes[0])


def test_a_file_that_could_shrink_is_not_looked_at() -> None:
    """Looking where it ends would end us."""
    place = Writer().put(numbered(0))
    assert place is not None
    number, fd = place
    assert fd is not None
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(fd, 1)
    with pytest.raises(ValueError, match="length"):
        Reader().add(number, fd, 1 << 24)
    with pytest.raises(ValueError, match="none"):
        Reader().add(MOST_SLOTS, fd, HEADER)
    os.close(fd)
    open_file = os.memfd_create("any", os.MFD_ALLOW_SEALING)
    os.ftruncate(open_file, HEADER)
    fcntl.fcntl(open_file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    with pytest.raises(ValueError, match="none"):
        Reader().add(0, open_file, HEADER)
    os.close(open_file)
