"""A recording as a live camera: MJPEG over HTTP on loopback, whose picture can be made to stand still."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2

MOST_RATE = 10.0
"""Pictures a second: enough to see that a camera is there, and little to encode."""
QUALITY = 85
BOUNDARY = "picture"


class Film:
    """Serves the file at `url`, over and over at its own speed, until `close`. Raises OSError if it has no pictures."""

    def __init__(self, path: Path, start_s: float = 0.0) -> None:
        self._path, self._start_s = path, start_s
        self._changed = threading.Condition()
        self._jpeg = b""
        self._number = 0
        self._closed = threading.Event()
        self._stands = False
        first = next(self._pictures(), None)
        if first is None:
            raise OSError(f"{path}: no pictures in it")
        self._server = _Server(self)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/film.mjpg"
        self._threads = [
            threading.Thread(target=self._play, name="chaos-film", daemon=True),
            threading.Thread(target=self._server.serve_forever, args=(0.05,), name="chaos-film-http", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stand(self) -> None:
        """Show the same picture again and again; the stream goes on."""
        self._stands = True

    def move(self) -> None:
        """Go on."""
        self._stands = False

    def close(self) -> None:
        """End it and its connections."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(5)

    def after(self, number: int) -> tuple[int, bytes] | None:
        """The next picture and its number; None when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._closed.is_set())
            return None if self._closed.is_set() else (self._number, self._jpeg)

    def _play(self) -> None:
        begun_s, shown_s = time.monotonic(), 0.0
        while not self._closed.is_set():
            for at_s, jpeg in self._pictures():
                self._show(begun_s + shown_s + at_s, jpeg)
                while self._stands and not self._closed.is_set():
                    self._show(time.monotonic() + 1 / MOST_RATE, jpeg)
                    begun_s += 1 / MOST_RATE
                if self._closed.is_set():
                    return
            shown_s += at_s + 1 / MOST_RATE

    def _show(self, at_s: float, jpeg: bytes) -> None:
        self._closed.wait(max(0.0, at_s - time.monotonic()))
        with self._changed:
            self._jpeg = jpeg
            self._number += 1
            self._changed.notify_all()

    def _pictures(self) -> Iterator[tuple[float, bytes]]:
        """When each is due, s from the first, and its JPEG; once through the file."""
        import av

        first_s: float | None = None
        due_s = 0.0
        with av.open(str(self._path)) as container:
            for frame in container.decode(video=0):
                at_s = float(frame.time or 0)
                if at_s < self._start_s:
                    continue
                first_s = at_s if first_s is None else first_s
                if at_s - first_s >= due_s - 1e-3:
                    due_s += 1 / MOST_RATE
                    picture = frame.to_ndarray(format="bgr24")
                    yield at_s - first_s, bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, film: Film) -> None:
        self.film = film
        super().__init__(("127.0.0.1", 0), _Viewer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Viewers go when they like."""


class _Viewer(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def do_GET(self) -> None:
        """Every path shows the film."""
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={BOUNDARY}")
        self.end_headers()
        number = 0
        while (shown := self.server.film.after(number)) is not None:
            number, jpeg = shown
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
