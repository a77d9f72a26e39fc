"""`sightwire ...` as a child process, as a shell or systemd would run it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import agent
from tests.support.broker import die_with_parent
from tests.support.patience import PATIENCE_S

ROOT = Path(agent.__file__).parents[1]


def _as_a_shell_starts_it() -> None:
    """Listening to Ctrl-C, even if we were started in the background of a script, where that is ignored."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Sightwire:
    """Runs when the constructor returns; in a process group of its own, as a shell starts it, and never outlives us."""

    def __init__(
        self,
        *arguments: str | Path,
        models: Path | None = None,
        env: Mapping[str, str] | None = None,
        reads: int | None = None,
    ) -> None:
        """`models`: the store's folder. `reads`: close standard output after so many lines, as `head` does."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", **(env or {})}
        if models is not None:
            environment["SIGHTWIRE_MODELS"] = str(models)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            preexec_fn=_as_a_shell_starts_it,
        )
        self._changed = threading.Condition(threading.RLock())  # `wanted` looks at what is guarded by it
        self._out: list[str] = []
        self._err: list[str] = []
        self._open_pipes = 2
        pipes = ((self._process.stdout, self._out, reads), (self._process.stderr, self._err, None))
        self._readers = [threading.Thread(target=self._read, args=pipe) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process, which is also its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    @property
    def out(self) -> str:
        """Standard output up to now, whole lines."""
        with self._changed:
            return "".join(self._out)

    @property
    def err(self) -> str:
        """Standard error up to now, whole lines."""
        with self._changed:
            return "".join(self._err)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def wait_for(self, wanted: Callable[[Sightwire], Any], deadline_s: float = PATIENCE_S) -> None:
        """Until `wanted`, asked at every new line.

        Raises TimeoutError with what was printed, and where all threads are (it is killed by that); at once if it ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: wanted(self) or not self._open_pipes, deadline_s)
            if wanted(self):
                return
            printed = f"{self._out[-3:]}, {self._err[-5:]}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.end(signal.SIGABRT, 5)
        raise TimeoutError(f"not seen in {deadline_s} s; it printed: {printed}\n{self.err[-8000:]}")

    def wait_for_log(self, text: str, deadline_s: float = PATIENCE_S) -> None:
        """Until `text` is on standard error."""
        self.wait_for(lambda it: text in it.err, deadline_s)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, as systemd does."""
        self._process.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the whole group, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self, deadline_s: float = PATIENCE_S) -> int:
        """The exit status, once it has ended and all it printed is read."""
        status = self._process.wait(deadline_s)
        for reader in self._readers:
            reader.join(deadline_s)
        return status

    def end(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = PATIENCE_S) -> int:
        """Signal and wait."""
        self.send(number)
        return self.wait(deadline_s)

    def close(self) -> None:
        """Kill the whole group, if there is still one. May be called twice."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def _read(self, pipe: IO[bytes], lines: list[str], most: int | None) -> None:
        with pipe:
            for line in islice(pipe, most):
                with self._changed:
                    lines.append(line.decode("utf-8", "replace"))
                    self._changed.notify_all()
        with self._changed:
            self._open_pipes -= 1
            self._changed.notify_all()

    def __enter__(self) -> Sightwire:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def sightwire(*arguments: str | Path, deadline_s: float = PATIENCE_S, **more: Any) -> tuple[int, str, str]:
    """Run a command to its end: exit status, standard output, standard error."""
    with Sightwire(*arguments, **more) as command:
        status = command.wait(deadline_s)
        return status, command.out, command.err
