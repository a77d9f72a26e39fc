"""The end of systemd that services speak to (sd_notify(3))."""

from __future__ import annotations

import socket

WATCHDOG_S = 2.0


class Systemd:
    """Listens as systemd does, and says which environment leads to it."""

    def __init__(self, address: str) -> None:
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(address)
        self._door.setblocking(False)
        shown = address.replace("\0", "@", 1)
        self.environ = {"NOTIFY_SOCKET": shown, "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}

    def heard(self) -> list[str]:
        said = []
        while True:
            try:
                said += self._door.recv(4096).decode().splitlines()
            except BlockingIOError:
                return said

    def close(self) -> None:
        self._door.close()
