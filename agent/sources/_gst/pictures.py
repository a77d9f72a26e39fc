"""From GStreamer's samples to Images: views of its buffers, mapped as long as somebody looks at them."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from agent.errors import SourceError
from agent.sources import Intake
from agent.sources._decoded import matrix_of
from agent.sources._gst.bindings import gstreamer, video
from engines.pixels import Image, PixelFormat, Plane, Range

_FORMATS: dict[str, PixelFormat] = {"I420": "i420", "NV12": "nv12", "BGR": "bgr", "RGB": "rgb", "GRAY8": "gray"}
CAPS = f"video/x-raw,format={{{','.join(_FORMATS)}}}"
"""What needs no conversion."""
_LAYOUT: dict[PixelFormat, tuple[tuple[int, int], ...]] = {
    "i420": ((1, 1), (2, 1), (2, 1)),
    "nv12": ((1, 1), (2, 2)),
    "bgr": ((1, 3),),
    "rgb": ((1, 3),),
    "gray": ((1, 1),),
}
"""Per plane: how much narrower than the picture, and bytes a pixel."""
#: GStreamer's colour matrix -> its number in H.273
_H273 = {"BT709": 1, "FCC": 4, "BT601": 6, "SMPTE240M": 7, "BT2020": 9}
_UNSPECIFIED = 2


class Pictures:
    """Turns the samples of one stream into Images; a change of caps in mid-stream is just another size or format."""

    def __init__(self, label: str, intake: Intake) -> None:
        self._label, self._intake = label, intake
        self._caps: Any = None
        self._info: Any = None
        self._format: PixelFormat = "i420"
        self._range: Range = "limited"
        self._matrix = matrix_of(_UNSPECIFIED, 0, 0)
        self._bounded: bool | None = None
        self.duration_ns = 0
        """Of one picture; 0 where the rate is not known or not fixed."""

    def image(self, sample: Any) -> Image:
        """Raises SourceError for what the engines do not read."""
        caps, buffer = sample.get_caps(), sample.get_buffer()
        if self._caps is None or caps is None or not caps.is_equal(self._caps):
            self._read(caps)
        if self._bounded is None:
            self._bounded = _is_bounded(buffer)
        info = self._info
        meta = video().buffer_get_video_meta(buffer)
        offsets, strides = (info.offset, info.stride) if meta is None else (meta.offset, meta.stride)
        try:
            memory = _copied(buffer) if self._bounded or not _is_addressable() else np.asarray(_Mapped(buffer))
            planes = tuple(
                _plane(memory, info, step, pixel, offset, stride)
                for (step, pixel), offset, stride in zip(_LAYOUT[self._format], offsets, strides, strict=False)
            )
        except (ValueError, TypeError) as error:  # a source that announces one size and hands out another
            raise SourceError(f"{self._label}: gave a picture that cannot be read: {error}") from None
        return Image(planes, self._format, self._matrix, self._range, (info.width, info.height))

    def _read(self, caps: Any) -> None:
        name = caps.get_structure(0).get_string("format") if caps is not None and caps.get_size() else None
        info = video().VideoInfo.new_from_caps(caps) if name else None
        if info is None or name not in _FORMATS:
            raise SourceError(
                f"{self._label}: its appsink gets {name or 'no raw video'}, the engines read {', '.join(_FORMATS)}: "
                "put videoconvert before it"
            )
        self._caps, self._info, self._bounded = caps, info, None
        self._format = _FORMATS[name]
        full = info.colorimetry.range.value_nick == "0-255" or self._format in ("bgr", "rgb")
        self._range = "full" if full else "limited"
        matrix = info.colorimetry.matrix.value_name.removeprefix("GST_VIDEO_COLOR_MATRIX_")
        self._matrix = matrix_of(_H273.get(matrix, _UNSPECIFIED), info.width, info.height)
        self.duration_ns = round(1e9 * info.fps_d / info.fps_n) if info.fps_n else 0
        rate = f"{info.fps_n / info.fps_d:g}" if info.fps_n else "variable"
        self._intake.facts.setdefault("codec", "raw")
        self._intake.facts.update(size=f"{info.width}x{info.height}", rate=rate)


def _plane(memory: Plane, info: Any, step: int, pixel: int, offset: int, stride: int) -> Plane:
    """View of one plane, (H, W) or (H, W, bytes a pixel). Raises ValueError or TypeError where the memory is short."""
    shape = (-(-info.height // step), -(-info.width // step), pixel)
    view: Plane = np.ndarray(shape, np.uint8, memory, offset, (stride, pixel, 1))
    return view if pixel > 1 else view[:, :, 0]


def _is_bounded(buffer: Any) -> bool:
    """Whether it comes from a pool that has only so many: whoever keeps some of them holds the source up."""
    if buffer.pool is None:
        return False
    _, _, _, _, most = gstreamer().BufferPool.config_get_params(buffer.pool.get_config())
    return bool(most)


def _copied(buffer: Any) -> Plane:
    return np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)


@cache
def _is_addressable() -> bool:
    """Whether hash() of a boxed value is its address: NVIDIA's bindings stand on that too, but nobody promises it."""
    buffer = gstreamer().Buffer.new()
    return f" at {hash(buffer):#x})" in repr(buffer)


class _MapInfo(ctypes.Structure):
    """`GstMapInfo`, whose layout is part of GStreamer's stable interface."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("maxsize", ctypes.c_size_t),
        ("user_data", ctypes.c_void_p * 4),
        ("reserved", ctypes.c_void_p * 4),
    )


_READ = 1
"""`GST_MAP_READ`."""


@cache
def _library() -> Any:
    """libgstreamer, which is loaded already: PyGObject's own `map` hands out a copy."""
    library = ctypes.CDLL("libgstreamer-1.0.so.0")
    library.gst_buffer_map.argtypes = (ctypes.c_void_p, ctypes.POINTER(_MapInfo), ctypes.c_int)
    library.gst_buffer_unmap.argtypes = (ctypes.c_void_p, ctypes.POINTER(_MapInfo))
    library.gst_buffer_unmap.restype = None
    return library


class _Mapped:
    """The memory of a Gst.Buffer for numpy, read-only; unmapped when the last view of it is gone."""

    def __init__(self, buffer: Any) -> None:
        """Raises ValueError where the CPU cannot read it."""
        self._info, self._buffer = _MapInfo(), None
        if not _library().gst_buffer_map(hash(buffer), ctypes.byref(self._info), _READ):
            raise ValueError("its memory cannot be read by the CPU")
        self._buffer, self._unmap = buffer, _library().gst_buffer_unmap
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (self._info.size,),
            "data": (self._info.data, True),
        }

    def __del__(self) -> None:
        if self._buffer is not None:
            self._unmap(hash(self._buffer), ctypes.byref(self._info))
