"""Real RTSP cameras on loopback, to be frozen, stalled, killed and restarted."""

from __future__ import annotations

import functools
import mmap
import os
import select
import signal
import struct
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.support.clips import SMALL, Clip
from tests.support.frozen import freeze
from tests.support.needs import missing

#: GStreamer's bindings come with the system's Python, not from a package index
_PYTHON = "/usr/bin/python3"
_PROGRAM = Path(__file__).with_name("rtsp_server.py")


@functools.cache
def _available() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        return subprocess.run([_PYTHON, "-c", probe], capture_output=True, timeout=30).returncode == 0
    except OSError:
        return False


class RtspServer:
    """One process that serves `mounts` cameras, /cam0, /cam1, ...; runs when the constructor returns.

    Each plays the clip over and over in real time from the start of the server, whether somebody looks or not, and so
    is joined anywhere between two key frames. It ends with this process, however that ends.
    """

    def __init__(
        self,
        clip: Clip | Path = SMALL,
        mounts: int = 1,
        user: str | None = None,
        password: str | None = None,
        fps: float = 30,
        port: int = 0,
        loss: float = 0,
        apart: bool = False,
        then: Clip | None = None,
    ) -> None:
        """`apart`: cameras do not wait for each other, as else they do for the first key frame of one that is joined.

        But who comes back at once may be told that it is not ready yet. `then`: what `change` changes to.
        """
        if not _available():
            missing("GstRtspServer with its Python binding (gir1.2-gst-rtsp-server-1.0)")
        self._clip, self._codec = (clip.path(), clip.codec) if isinstance(clip, Clip) else (clip, "h264")
        self._mounts, self._user, self._password, self._fps, self._loss = mounts, user, password, fps, loss
        self._apart, self._then = apart, then
        self._folder = tempfile.TemporaryDirectory(prefix="camera-")
        self._pushed: mmap.mmap
        self._process: subprocess.Popen[str]
        self.port = port
        self.frames = 0
        """How many the clip has."""
        self._start()

    @property
    def urls(self) -> list[str]:
        """One for each mount, without credentials."""
        return [f"rtsp://127.0.0.1:{self.port}/cam{mount}" for mount in range(self._mounts)]

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def pushed_ns(self, index: int, mount: int = 0) -> int:
        """When the picture with this number last left the camera, `time.monotonic_ns`; 0: not yet."""
        return int(struct.unpack_from("=q", self._pushed, 8 * (index * self._mounts + mount))[0])

    def freeze(self) -> None:
        """A black hole: connections stay open, nothing is answered, as with a cut cable."""
        freeze(self._process.pid)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._process.send_signal(signal.SIGCONT)

    def stall(self) -> None:
        """Answer, but send no more pictures."""
        self._tell("stall")

    def flow(self) -> None:
        """Go on after `stall`."""
        self._tell("flow")

    def change(self) -> None:
        """Play the other clip from now on, over the connections that there are."""
        self._tell("change")

    def kill(self) -> None:
        """Lose power: SIGKILL, no goodbye. May be called twice."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def restart(self) -> None:
        """Start again on the same port."""
        self.kill()
        self._pushed.close()
        self._start()

    def close(self) -> None:
        """End it and remove its files."""
        self.kill()
        self._pushed.close()
        self._folder.cleanup()

    def _start(self) -> None:
        file = Path(self._folder.name) / "pushed"
        command = [_PYTHON, str(_PROGRAM), str(self._clip), f"--port={self.port}", f"--mounts={self._mounts}"]
        command += [f"--fps={self._fps}", f"--loss={self._loss}", f"--pushed={file}"]
        command += ["--apart"] * self._apart
        command.append(f"--codec={self._codec}")
        if self._then is not None:
            command += ["--then", str(self._then.path()), self._then.codec]
        environment = dict(os.environ)
        if self._user is not None:
            command.append(f"--user={self._user}")
            environment["RTSP_PASSWORD"] = self._password or ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        _ready, port, frames = self._line(20).split()
        self.port, self.frames = int(port), int(frames)
        with file.open("rb") as opened:
            self._pushed = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        self._line(5)

    def _line(self, deadline_s: float) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], deadline_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.kill()
            raise RuntimeError("the RTSP server does not start or answer")
        return line

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
