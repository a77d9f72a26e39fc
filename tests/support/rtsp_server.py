#!/usr/bin/python3
"""The camera of the tests: plays a ready-made clip over RTSP on loopback, on one or more mounts, in real time.

Runs under the system's Python, where GStreamer's bindings live. The clip is parsed once, and one thread pushes its
access units to whoever is connected, so a dozen cameras cost next to nothing. Prints `READY port frames`, then obeys
lines on standard input, answering OK: `stall` (connections stay, pictures stop), `flow`, `change` (the clip of `--then`
is played from now on, over the connections that there are). It ends with its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import signal
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402, F401 - GstApp gives appsrc its methods

PR_SET_PDEATHSIG = 1
ROLE = "viewer"
CHAIN = (
    "appsrc name=source-{codec} is-live=true format=time block=false max-bytes=0"
    " ! {codec}parse ! rtp{codec}pay name={payloader} pt=96 config-interval=-1"
)
#: one packet at a time, so only where some are to be lost: without it a picture's packets leave in one write
LOSS = "identity name=pay0 drop-probability={loss}"
#: of whatever codec, under one and the same payload type
EITHER = "funnel name=pay0"


@dataclass(frozen=True)
class AccessUnit:
    """One coded picture."""

    data: bytes
    delay_ns: int
    """How much later it is shown than decoded."""
    delta: bool
    """Not a key frame."""
    index: int
    """The number in its barcode: its place among the pictures as shown."""


@dataclass(frozen=True)
class Program:
    """What is played."""

    units: list[AccessUnit]
    caps: Gst.Caps
    codec: str
    """h264 or h265."""


@dataclass
class Viewed:
    """A mount that somebody looks at."""

    sources: dict[str, Gst.Element]
    """By codec."""
    zero_ns: int | None = None
    """The running time of frame 0 of the camera, once the pipeline has a clock."""


class Player:
    """Plays all mounts: frame k of mount m is due at (k + m / mounts) / fps after the start."""

    def __init__(self, programs: list[Program], mounts: int, fps: float, pushed: mmap.mmap) -> None:
        self.programs, self._mounts, self._pushed = programs, mounts, pushed
        self._frame_ns = round(1e9 / fps)
        self._viewed: dict[int, Viewed] = {}
        self.flowing, self.changing = True, False

    def join(self, mount: int, sources: dict[str, Gst.Element]) -> None:
        """Somebody looks: pictures from now on, from wherever the clip is."""
        self._viewed[mount] = Viewed(sources)

    def leave(self, mount: int, sources: dict[str, Gst.Element]) -> None:
        """The last viewer of this mount is gone."""
        viewed = self._viewed.get(mount)
        if viewed is not None and viewed.sources is sources:
            self._viewed.pop(mount)

    def _change(self, frame: int) -> None:
        """Play the next clip from now on, if it has a key frame here: encoders begin with one."""
        units = self.programs[1].units
        if not units[frame % len(units)].delta:
            self.programs.pop(0)
            self.changing = False

    def run(self) -> None:
        """Play for ever."""
        start_ns = time.monotonic_ns()
        tick = 0
        while True:
            due_ns = start_ns + tick * self._frame_ns // self._mounts
            time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            frame, mount = divmod(tick, self._mounts)
            if self.changing and mount == 0:
                self._change(frame)
            viewed = self._viewed.get(mount)
            if viewed is not None and self.flowing:
                self._push(viewed, mount, frame)
            tick += 1

    def _push(self, viewed: Viewed, mount: int, frame: int) -> None:
        program = self.programs[0]
        source = viewed.sources[program.codec]
        # Only a pipeline that plays has both a clock and a base time.
        clock = source.get_clock() if source.current_state == Gst.State.PLAYING else None
        if clock is None:
            return
        if viewed.zero_ns is None:
            viewed.zero_ns = clock.get_time() - source.get_base_time() - frame * self._frame_ns
        unit = program.units[frame % len(program.units)]
        buffer = Gst.Buffer.new_wrapped(unit.data)
        buffer.dts = viewed.zero_ns + frame * self._frame_ns
        buffer.pts = buffer.dts + unit.delay_ns
        buffer.duration = self._frame_ns
        if unit.delta:
            buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
        struct.pack_into("=q", self._pushed, 8 * (unit.index * self._mounts + mount), time.monotonic_ns())
        if source.get_property("caps") is not program.caps:
            source.set_property("caps", program.caps)
        source.emit("push-buffer", buffer)


class Camera(GstRtspServer.RTSPMediaFactory):
    """Makes the pipeline of one mount when its first viewer comes."""

    def __init__(self, mount: int, player: Player, loss: float) -> None:
        super().__init__()
        self._mount, self._player = mount, player
        self._codecs = sorted({program.codec for program in player.programs})
        self.set_shared(True)
        end = LOSS.format(loss=loss) if loss else EITHER if len(self._codecs) > 1 else ""
        chains = [
            CHAIN.format(codec=codec, payloader=f"payloader-{codec}" if end else "pay0") + (" ! pay0." if end else "")
            for codec in self._codecs
        ]
        self.set_launch(f"( {' '.join([end, *chains])} )")
        self.connect("media-configure", self._configure)

    def _configure(self, _factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        element = media.get_element()
        sources = {codec: element.get_by_name(f"source-{codec}") for codec in self._codecs}
        media.connect("unprepared", lambda _media: self._player.leave(self._mount, sources))
        self._player.join(self._mount, sources)


def program(clip: str, codec: str) -> Program:
    """The coded pictures of an MP4 file, in decoding order."""
    pipeline = Gst.parse_launch(
        f'filesrc location="{clip}" ! qtdemux ! {codec}parse config-interval=-1'
        f" ! video/x-{codec},stream-format=byte-stream,alignment=au ! appsink name=sink sync=false"
    )
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    buffers, caps = [], None
    while (sample := sink.emit("pull-sample")) is not None:
        buffers.append(sample.get_buffer())
        caps = caps or sample.get_caps()
    pipeline.set_state(Gst.State.NULL)
    if caps is None:
        sys.exit(f"{clip}: no {codec} in it")
    shown = {pts: index for index, pts in enumerate(sorted(buffer.pts for buffer in buffers))}
    units = [
        AccessUnit(
            buffer.extract_dup(0, buffer.get_size()),
            max(0, buffer.pts - buffer.dts) if buffer.dts != Gst.CLOCK_TIME_NONE else 0,
            buffer.has_flags(Gst.BufferFlags.DELTA_UNIT),
            shown[buffer.pts],
        )
        for buffer in buffers
    ]
    return Program(units, caps, codec)


def protect(server: GstRtspServer.RTSPServer, cameras: list[Camera], user: str, password: str) -> None:
    """Let only this user in."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    for camera in cameras:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role(ROLE)
        for right in (GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS, GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT):
            permissions.add_permission_for_role(ROLE, right, True)
        camera.set_permissions(permissions)


def obey(player: Player) -> None:
    """Do what standard input says; its end is the parent's."""
    for line in sys.stdin:
        if line.strip() == "change":
            player.changing = True
        else:
            player.flowing = line.strip() != "stall"
        print("OK", flush=True)  # noqa: T201 - the answer
    os._exit(0)


def arguments() -> argparse.Namespace:
    """The command line; the password comes in the environment, which other users cannot see."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--then", nargs=2, metavar=("CLIP", "CODEC"), help="what `change` changes to")
    parser.add_argument("--port", default="0")
    parser.add_argument("--mounts", type=int, default=1)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--loss", type=float, default=0, help="share of RTP packets that never leave")
    parser.add_argument("--apart", action="store_true", help="a thread for each viewer")
    parser.add_argument("--user", help="its password is in RTSP_PASSWORD")
    parser.add_argument("--pushed", type=Path, required=True, help="file of push times: int64 ns [frame][mount]")
    return parser.parse_args()


def main() -> None:
    """Serve until the parent is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    options = arguments()
    Gst.init(None)
    programs = [program(*one) for one in ((options.clip, options.codec), options.then) if one]
    frames = len(programs[0].units)
    options.pushed.write_bytes(bytes(8 * options.mounts * max(len(one.units) for one in programs)))
    with options.pushed.open("r+b") as file:
        player = Player(programs, options.mounts, options.fps, mmap.mmap(file.fileno(), 0))

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    if options.apart:
        server.get_thread_pool().set_max_threads(-1)
    cameras = [Camera(mount, player, options.loss) for mount in range(options.mounts)]
    for mount, camera in enumerate(cameras):
        server.get_mount_points().add_factory(f"/cam{mount}", camera)
    if options.user:
        protect(server, cameras, options.user, os.environ["RTSP_PASSWORD"])
    if server.attach(None) == 0:
        sys.exit(f"port {options.port} cannot be had")
    for work in (player.run, lambda: obey(player)):
        threading.Thread(target=work, daemon=True).start()
    print(f"READY {server.get_bound_port()} {frames}", flush=True)  # noqa: T201 - read by who started us
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
