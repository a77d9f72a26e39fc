"""An HTTP camera as small ones are: MJPEG at /stream.mjpg, one picture a request at /snap.jpg, and faults on demand.

Its pictures carry their number as the barcode of `agent.sources.synthetic`; one count a stream, one for all snapshots.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

import cv2

from agent.sources.synthetic import picture
from tests.support.broker import Certificates

_BOUNDARY = "picture"
_NONCE = "b4c7"


def jpeg(number: int, size: tuple[int, int] = (640, 360)) -> bytes:
    """Picture `number` as a JPEG file."""
    bgr = picture(number, *size, "bgr").planes[0]
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


class HttpCamera:
    """Serves on a free port of loopback until closed; `rate` is that of its streams."""

    def __init__(
        self,
        *,
        rate: float = 30.0,
        user: str | None = None,
        password: str = "",
        scheme: Literal["basic", "digest"] = "basic",
        certificates: Certificates | None = None,
    ) -> None:
        self._certificates = certificates
        self.rate, self.size = rate, (640, 360)
        self.user, self.password, self.scheme = user, password, scheme
        self.algorithm: Literal["MD5", "SHA-256"] = "MD5"
        self.other_challenges: list[str] = []
        """WWW-Authenticate headers before its own."""
        self.stale = False
        """Finds every nonce too old."""
        self.snapshots = 0
        self.requests: list[dict[str, str]] = []
        """The headers of each request."""
        self.connections = 0
        self.paths: list[str] = []
        """What was asked for, as it came."""
        self.answer: tuple[int, str, bytes] | None = None
        """Status, content type and body instead of a snapshot."""
        self.redirect: str | None = None
        self.port = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = threading.Event()
        self._garbage = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> HttpCamera:
        self.restart()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def stream(self) -> str:
        """Address of its MJPEG stream."""
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    @property
    def snapshot(self) -> str:
        """Address of its snapshots."""
        return f"http{'s' if self._certificates else ''}://127.0.0.1:{self.port}/snap.jpg"

    def restart(self) -> None:
        """Serve (again), on the same port."""
        self._closed.clear()
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        if self._certificates:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._certificates.server, self._certificates.server_key)
            # The handshake in the connection's own thread, not in the one that accepts.
            self._server.socket = context.wrap_socket(self._server.socket, True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="http-camera")
        self._thread.start()

    def kill(self) -> None:
        """As if it lost power: connections are reset, nothing listens."""
        if self._server is None or self._thread is None:
            return
        self._closed.set()
        self._flowing.set()
        self._server.shutdown()
        self._server.cut()
        self._server.server_close()
        self._thread.join()
        self._server = None

    def stall(self) -> None:
        """Send no more, neither pictures nor answers; connections stay."""
        self._flowing.clear()

    def flow(self) -> None:
        """Send again."""
        self._flowing.set()

    def spoil(self, count: int) -> None:
        """The next `count` pictures are cut short and scrambled."""
        self._garbage = count

    def next_picture(self, number: int) -> bytes:
        """What it sends as picture `number`."""
        data = jpeg(number, self.size)
        if self._garbage:
            self._garbage -= 1
            return b"\xff\xd8\xff\xfe" + data[5000:6000][::-1]
        return data

    def wait(self) -> bool:
        """Until it is not stalled; False where it is to end."""
        while not self._flowing.wait(0.05):
            pass
        return not self._closed.is_set()

    def lets_in(self, headers: Any, method: str) -> bool:
        """Whether a request has the right credentials."""
        given = headers.get("Authorization", "")
        if self.user is None:
            return True
        if self.scheme == "basic":
            return bool(given == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode())
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', given))
        a1 = self._hash(f"{self.user}:camera:{self.password}")
        a2 = self._hash(f"{method}:{fields.get('uri')}")
        said = [_NONCE, fields.get("nc"), fields.get("cnonce"), fields.get("qop")]
        expected = self._hash(":".join([a1, *map(str, said), a2]))
        return fields.get("username") == self.user and fields.get("response") == expected and not self.stale

    def _hash(self, text: str) -> str:
        return (hashlib.md5 if self.algorithm == "MD5" else hashlib.sha256)(text.encode()).hexdigest()

    @property
    def challenges(self) -> list[str]:
        """The WWW-Authenticate headers."""
        if self.scheme == "basic":
            return [*self.other_challenges, 'Basic realm="camera"']
        stale = ", stale=true" if self.stale else ""
        digest = f'Digest realm="camera", nonce="{_NONCE}", qop="auth", algorithm={self.algorithm}{stale}'
        return [*self.other_challenges, digest]


@contextmanager
def silent_server() -> Iterator[str]:
    """A URL whose server takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/snap.jpg"


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], camera: HttpCamera) -> None:
        self.camera = camera
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go when they like."""

    def cut(self) -> None:
        """Close all connections under their threads."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.server.camera.connections += 1
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def do_GET(self) -> None:
        camera = self.server.camera
        camera.requests.append(dict(self.headers))
        camera.paths.append(self.path)
        if not camera.wait():
            self.close_connection = True
        elif not camera.lets_in(self.headers, "GET"):
            self._reply(401, "text/plain", b"who are you?", [("WWW-Authenticate", c) for c in camera.challenges])
        elif camera.redirect:
            self._reply(302, "text/plain", b"", [("Location", camera.redirect)])
        elif self.path.startswith("/stream.mjpg"):
            self._stream(camera)
        elif self.path.startswith("/snap.jpg"):
            status, kind, body = camera.answer or (200, "image/jpeg", camera.next_picture(camera.snapshots))
            camera.snapshots += status == 200
            self._reply(status, kind, body)
        else:
            self._reply(404, "text/plain", b"no such thing")

    def _reply(self, status: int, kind: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, camera: HttpCamera) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={_BOUNDARY}")
        self.end_headers()
        start, number = time.monotonic(), 0
        while camera.wait():
            data = camera.next_picture(number)
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            number += 1
            time.sleep(max(0.0, start + number / camera.rate - time.monotonic()))
