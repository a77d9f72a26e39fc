"""Pictures and streams, harmed: JPEG and its kin, MJPEG and H.264 in files and over HTTP, each to what would read it.

What comes out is made a tensor, as an engine would; the packets go to a clip's template, as they would.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import shutil
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.clips.packets import Template
from agent.errors import SourceError
from agent.sources import Intake, SourceConfig, file, images, network, opencv, snapshot
from agent.sources.synthetic import picture
from engines.card import Input
from engines.errors import PictureError
from engines.picture_files import read
from engines.pixels import Image, Picture, TensorWriter, fit
from engines.quiet import quiet_opencv
from engines.stored import pack
from tests.support.hostile import Wrong, dice

MOST_PICTURES = 12
"""That are read of one stream."""
_SIZE = (288, 160)
_TIMEOUT_S = 1.0

PHOTOS = ("base.jpg", "progressive.jpg", "grey.jpg", "restarts.jpg", "exif.jpg", "a.png", "a.webp", "a.bmp", "a.tif",
    "a.jp2", "a.planes.png")  # fmt: skip
STREAMS = ("base.264", "main.264", "changed.264", "base.mp4", "base.ts", "base.mkv", "jpegs.avi", "jpegs.mjpeg",
    "jpegs.multipart")  # fmt: skip


class Pictures:
    """See the module. The first inputs are those that were thought of; then each way in turn."""

    most_s = 30.0
    most_mb = 700.0
    """A picture of the largest size that is let in, as it is decoded and as BGR."""

    def __init__(self, folder: Path) -> None:
        self._seeds = seeds(folder / "seeds")
        self._folder = folder / "read"
        self._writer = TensorWriter()
        self._into = Input(width=64, height=64, fit="letterbox")

    def make(self, number: int) -> bytes:
        """The name of the way it goes, a line, and then what goes there."""
        if number < len(THOUGHT_OF):
            way, data = THOUGHT_OF[number](self._seeds)
        else:
            chance = dice("picture", number)
            way = _ORDER[number % len(_ORDER)]
            seed = self._seeds[chance.choice(PHOTOS if way in ("photo", "images", "snapshot") else STREAMS)]
            data = harmed(seed, chance)
            if way in ("snapshot", "network", "opencv-url"):
                data = answered(data, chance)
        return f"{way}\n".encode() + data

    def feed(self, data: bytes) -> str:
        """By its way."""
        way, _, data = data.partition(b"\n")
        name = way.decode()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        if name == "photo":
            try:
                self._look(read(data, "a photo"))
            except PictureError:
                return "photo refused"
            return "photo read"
        with contextlib.ExitStack() as stack:
            config = self._config(name, data, stack)
            return f"{name} {self._read(config)}"

    def _config(self, way: str, data: bytes, stack: contextlib.ExitStack) -> SourceConfig:
        path = self._folder / "it.jpg"
        if way in ("images", "file", "opencv-file"):
            path.write_bytes(data)
            if way == "images":
                return images.Config(path=self._folder)
            return file.Config(path=path) if way == "file" else opencv.Config(path=path)
        url = stack.enter_context(serving(data))
        if way == "snapshot":
            return snapshot.Config(url=url, every=0.01, timeout_s=_TIMEOUT_S)
        if way == "network":
            return network.Config(url=url, timeout_s=_TIMEOUT_S)
        return opencv.Config(url=url, timeout_s=_TIMEOUT_S)

    def _read(self, config: SourceConfig) -> str:
        stop, tap, count = threading.Event(), _Tap(), 0
        try:
            with config.open(stop, Intake(tap=tap if config.has_packets else None)) as found:
                for _, image in islice(found, MOST_PICTURES):
                    self._look(image)
                    count += 1
        except SourceError as error:
            if not str(error).isprintable():
                raise Wrong(f"an error that is no line: {str(error)!r}") from None
            return "given up" if count else "refused"
        return "read"

    def _look(self, image: Image) -> None:
        geometry = fit(image.size, None, self._into)
        self._writer.write(Picture(image), geometry, np.empty((3, 64, 64), np.uint8))


class _Tap:
    """What clips would take."""

    def opened(self, stream: Any) -> None:
        with contextlib.suppress(ValueError):
            Template(stream)

    def packet(self, packet: Any) -> None:
        bytes(packet)


# -- seeds ------------------------------------------------------------------------------------------------------------


@functools.cache
def seeds(folder: Path) -> dict[str, bytes]:
    """Sound pictures and streams, small; made once."""
    if not folder.is_dir():
        partial = folder.with_suffix(f".{os.getpid()}")
        partial.mkdir(parents=True)
        for name, data in (_photos() | _streams(partial)).items():
            (partial / name).write_bytes(data)
        partial.rename(folder)
    return {name: (folder / name).read_bytes() for name in (*PHOTOS, *STREAMS)}


def _photos() -> dict[str, bytes]:
    cv2 = quiet_opencv()
    bgr = _frame(7)

    def encoded(ending: str, plane: NDArray[np.uint8], *options: int) -> bytes:
        return bytes(cv2.imencode(ending, plane, list(options))[1])

    base = encoded(".jpg", bgr)
    made = {
        "base.jpg": base,
        "progressive.jpg": encoded(".jpg", bgr, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "grey.jpg": encoded(".jpg", bgr[:, :, 0]),
        "restarts.jpg": encoded(".jpg", bgr, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
        "exif.jpg": base[:2] + _exif() + base[2:],
        "a.planes.png": pack(picture(7, *_SIZE, "i420")),
    }
    return made | {f"a.{kind}": encoded(f".{kind}", bgr) for kind in ("png", "webp", "bmp", "tif", "jp2")}


def _frame(number: int, size: tuple[int, int] = _SIZE) -> NDArray[np.uint8]:
    return picture(number, *size, "bgr").planes[0]


def _exif() -> bytes:
    """APP1 with an orientation and a time."""
    taken = b"2024:02:03 04:05:06\0"
    tiff = b"II*\0" + struct.pack("<IHHHIHHHHIII", 8, 2, 0x0112, 3, 1, 6, 0, 0x8769, 4, 1, 38, 0)
    tiff += struct.pack("<HHHIII", 1, 0x9003, 2, len(taken), 56, 0) + taken
    return b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff


def _streams(folder: Path) -> dict[str, bytes]:
    base = _encoded(folder / "base.h264", "libx264", profile="baseline")
    other = _encoded(folder / "other.h264", "libx264", size=(320, 240), profile="high")
    jpegs = [bytes(quiet_opencv().imencode(".jpg", _frame(n))[1]) for n in range(10)]
    part = b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
    return {
        "base.264": base,
        "main.264": _encoded(folder / "main.h264", "libx264", profile="main", bf="2"),
        "changed.264": base + other + base,
        "base.mp4": _encoded(folder / "a.mp4", "libx264", profile="baseline"),
        "base.ts": _encoded(folder / "a.ts", "libx264", profile="main"),
        "base.mkv": _encoded(folder / "a.mkv", "libx264", profile="high"),
        "jpegs.avi": _encoded(folder / "a.avi", "mjpeg"),
        "jpegs.mjpeg": b"".join(jpegs),
        "jpegs.multipart": b"".join(part % (len(jpeg), jpeg) for jpeg in jpegs),
    }


def _encoded(path: Path, codec: str, size: tuple[int, int] = _SIZE, **options: str) -> bytes:
    import av

    if codec == "libx264":
        options = {"preset": "ultrafast", "threads": "1", "g": "5", **options}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_frame(number, size), format="bgr24")))
        container.mux(stream.encode())
    return path.read_bytes()


# -- harm -------------------------------------------------------------------------------------------------------------


def harmed(data: bytes, chance: random.Random) -> bytes:
    """The same less what happened to it."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(_HARM)(data, chance)
    return data


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _lost(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 2, 7, 188, 1400, 5000)) :]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    # Headers decide; most are at the beginning.
    most = len(changed) if chance.random() < 0.5 else min(len(changed), 700)
    for _ in range(chance.choice((1, 3, 10, 100))):
        if most:
            changed[chance.randrange(most)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwritten(data: bytes, chance: random.Random) -> bytes:
    """Numbers at the ends of their range, where sizes and counts may stand."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 5))):
        value = chance.choice(
            (b"\xff\xff", b"\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", b"\xff")
        )
        at = chance.randrange(max(1, min(len(changed), chance.choice((64, 700, 1 << 30)))))
        changed[at : at + len(value)] = value
    return bytes(changed)


def _garbage(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.choice((1, 16, 2000))) + data[at:]


def _spliced(data: bytes, chance: random.Random) -> bytes:
    begin, end, at = (chance.randrange(len(data) + 1) for _ in range(3))
    return data[:at] + data[min(begin, end) : max(begin, end)] + data[at:]


def _sized(data: bytes, chance: random.Random) -> bytes:
    """Each JPEG in it says another size."""
    out, at = bytearray(data), 0
    for marker in (b"\xff\xc0\x00", b"\xff\xc2\x00"):
        while (at := out.find(marker, at)) >= 0:
            size = [chance.choice((0, 1, 65500, 65535, 30000, 17, 145, 193)) for _ in range(2)]
            out[at + 5 : at + 9] = struct.pack(">HH", *size)
            at += 9
    return bytes(out)


def _nal(data: bytes, chance: random.Random) -> bytes:
    """A parameter set of H.264 has other bits; a NAL unit is of another type, twice or gone."""
    units = data.split(b"\0\0\1")
    if len(units) < 4:
        return _flipped(data, chance)
    at = chance.randrange(1, min(len(units), chance.choice((3, 5, 1000))))
    unit = bytearray(units[at])
    what = chance.randrange(4)
    if what == 0 and len(unit) > 3:
        for _ in range(chance.choice((1, 4))):
            unit[chance.randrange(1, min(len(unit), 20))] ^= 1 << chance.randrange(8)
        units[at] = bytes(unit)
    elif what == 1 and unit:
        unit[0] = unit[0] & 0xE0 | chance.randrange(32)
        units[at] = bytes(unit)
    elif what == 2:
        units.insert(chance.randrange(1, len(units)), units[at])
    else:
        del units[at]
    return b"\0\0\1".join(units)


_HARM: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut, _lost, _flipped, _flipped, _overwritten, _garbage, _spliced, _sized, _nal, _nal,
)  # fmt: skip


def answered(body: bytes, chance: random.Random) -> bytes:
    """An answer over HTTP, most of them sound."""
    kind = chance.choice(
        (
            b"image/jpeg",
            b"multipart/x-mixed-replace; boundary=picture",
            b"video/mp2t",
            b"",
            b"text/html",
            b"\xff\0" * 50,
            b"multipart/x-mixed-replace",
        )
    )
    length = chance.choice(
        (b"%d" % len(body), b"%d" % len(body), b"", b"0", b"-1", b"99999999999", b"x", b"%d" % (len(body) // 2))
    )
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: "
        + kind
        + b"\r\n"
        + (b"Content-Length: " + length + b"\r\n" if length else b"")
    )
    what = chance.randrange(12)
    if what == 0:
        head, body = head + b"Transfer-Encoding: chunked\r\n", b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    elif what == 1:
        head, body = (
            head + b"Transfer-Encoding: chunked\r\n",
            chance.choice((b"ffffffffffffffff\r\n", b"-5\r\n", b"zz\r\n", b"")) + body,
        )
    elif what == 2:
        head += b"X: " + b"a" * 100_000 + b"\r\n"
    elif what == 3:
        head += b"X: y\r\n" * 500
    elif what == 4:
        head = harmed(head, chance)
    elif what == 5:
        head = chance.choice(
            (
                b"",
                b"HTTP/1.1 302 Found\r\nLocation: /again\r\n",
                b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest \xff=,,\r\n",
                b"HTTP/1.1 999\r\n",
                b"HTTP/9.9 200 OK\r\n",
                b"RTSP/1.0 200 OK\r\n",
                b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
            )
        )
    return head + b"\r\n" + body


# -- thought of -------------------------------------------------------------------------------------------------------

Seeds = dict[str, bytes]


def _bomb_jpeg(size: int) -> Callable[[Seeds], tuple[str, bytes]]:
    def make(seed: Seeds) -> tuple[str, bytes]:
        data = bytearray(seed["base.jpg"])
        at = data.index(b"\xff\xc0\0")
        data[at + 5 : at + 9] = struct.pack(">HH", size, size)
        return "photo", bytes(data)

    return make


def _bomb_png(size: int) -> Callable[[Seeds], tuple[str, bytes]]:
    """All of its rows are there: a few hundred kilobytes that are gigabytes."""

    def make(_: Seeds) -> tuple[str, bytes]:
        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        squeeze = zlib.compressobj(1)
        row = bytes(1 + size // 8)
        body = b"".join(squeeze.compress(row) for _ in range(size)) + squeeze.flush()
        head = struct.pack(">IIBBBBB", size, size, 1, 0, 0, 0, 0)
        return "photo", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

    return make


def _sps(width: int, height: int) -> bytes:
    """A sequence parameter set of H.264, baseline (7.3.2.1.1)."""
    bits = f"{66:08b}{0xC0:08b}{62:08b}"
    for code in (0, 0, 0, 0, 1):  # ids, frame_num, order count (type 0, lsb), reference frames
        bits += _golomb(code)
    bits += "0" + _golomb(width // 16 - 1) + _golomb(height // 16 - 1) + "1" + "0" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    return b"\0\0\1\x67" + bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def _golomb(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _bomb_264(way: str, size: int) -> Callable[[Seeds], tuple[str, bytes]]:
    """A stream whose parameter set says another size."""

    def make(seed: Seeds) -> tuple[str, bytes]:
        units = seed["base.264"].split(b"\0\0\1")
        sps = _sps(size, size)[3:]
        again = [sps if unit[:1] and unit[0] & 31 == 7 else unit for unit in units]
        data = b"\0\0\1".join(again)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: video/h264\r\n\r\n"
        return way, head + data if way in ("network", "opencv-url") else data

    return make


def _stream_of(way: str, photo: Callable[[Seeds], tuple[str, bytes]]) -> Callable[[Seeds], tuple[str, bytes]]:
    """An MJPEG stream of that photo."""

    def make(seed: Seeds) -> tuple[str, bytes]:
        data = photo(seed)[1]
        part = b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=picture\r\n\r\n"
        return (way, head + part * 5) if way in ("network", "opencv-url") else (way, data * 5)

    return make


def _as(way: str, photo: Callable[[Seeds], tuple[str, bytes]]) -> Callable[[Seeds], tuple[str, bytes]]:
    def make(seed: Seeds) -> tuple[str, bytes]:
        data = photo(seed)[1]
        return way, (b"HTTP/1.1 200 OK\r\n\r\n" if way == "snapshot" else b"") + data

    return make


def _vast(way: str) -> Callable[[Seeds], tuple[str, bytes]]:
    """A sound video of one picture that is too large, with all its pixels."""

    def make(_: Seeds) -> tuple[str, bytes]:
        import av

        made = io.BytesIO()
        with av.open(made, "w", format="matroska") as container:
            stream: Any = container.add_stream("mjpeg", rate=5)
            stream.width, stream.height, stream.pix_fmt = 9008, 8000, "yuvj420p"
            container.mux(stream.encode(av.VideoFrame(9008, 8000, "yuvj420p")))
            container.mux(stream.encode())
        return way, made.getvalue()

    return make


def _endless(way: str) -> Callable[[Seeds], tuple[str, bytes]]:
    """A megabyte of zeros for a picture."""
    return lambda _: (way, b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8" + bytes(1 << 20))


_WAYS = ("photo", "images", "snapshot", "network", "opencv-url", "file", "opencv-file")
_ORDER = (*["photo"] * 6, "images", "images", *["snapshot"] * 2, "network", "network", "opencv-url", *["file"] * 4,
    *["opencv-file"] * 2)  # fmt: skip
THOUGHT_OF: tuple[Callable[[Seeds], tuple[str, bytes]], ...] = (
    *(lambda _, way=way: (way, b"") for way in _WAYS),  # type: ignore[misc]
    *(lambda _, way=way: (way, bytes(5000)) for way in _WAYS),  # type: ignore[misc]
    *(_bomb_jpeg(size) for size in (0, 9000, 20000, 32000, 65500, 65535)),
    *(_bomb_png(size) for size in (20000, 32000)),
    *(_as(way, _bomb_jpeg(32000)) for way in ("images", "snapshot")),
    *(_stream_of(way, _bomb_jpeg(size)) for way in ("network", "opencv-url", "file",
        "opencv-file") for size in (20000, 65500)),
    *(_bomb_264(way, size) for way in ("file", "opencv-file", "network", "opencv-url") for size in (4096, 16384,
        32768)),
    *(_vast(way) for way in ("file", "opencv-file")),
    *(_endless(way) for way in ("snapshot", "network", "opencv-url")),
)  # fmt: skip


@contextlib.contextmanager
def serving(answer: bytes) -> Iterator[str]:
    """A URL of a server that sends these bytes to whoever asks, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(listening, answer, ended), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/it"
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket, answer: bytes, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with contextlib.suppress(OSError), connection:
            connection.settimeout(2 * _TIMEOUT_S)
            connection.recv(4096)
            connection.sendall(answer)
