"""A password that the agent knows is in nothing that it says, writes or hands on, whatever works and whatever fails."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import yaml

from tests.support.agents import fake_model, fake_store
from tests.support.broker import USER, Mosquitto, Subscriber, free_port
from tests.support.http_camera import HttpCamera
from tests.support.process import ROOT, Sightwire, sightwire
from tests.support.waiting import until


class Plants:
    """A secret for each place where one may stand, and all of them to look for."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}

    def __call__(self, place: str, *, odd: bool = True) -> str:
        """`odd`: with letters that a URL quotes, so that one form of it is not the other."""
        self.all[place] = f"gEhe1m-{place}" + ("@/ü:%" if odd else "")
        return self.all[place]

    def found(self, text: str) -> list[str]:
        """The places whose secret is in a text: as it was planted, quoted, or as base64, which headers have."""
        words = re.findall(r"[A-Za-z0-9+/]{20,}={0,2}", text)
        decoded = [base64.b64decode(f"{word.rstrip('=')}==") for word in words if len(word.rstrip("=")) % 4 != 1]
        low = "\n".join([text, *(data.decode("latin-1") for data in decoded)]).casefold()
        return [place for place in self.all if f"gehe1m-{place}".casefold() in low]


@pytest.fixture
def plants() -> Plants:
    return Plants()


class Site:
    """Cameras and brokers that work, refuse and are not there; each knows a secret."""

    def __init__(self, folder: Path, plants: Plants, stack: ExitStack) -> None:
        self.folder, self.plants = folder, plants
        self.broker = stack.enter_context(Mosquitto(folder, password=plants("broker", odd=False)))
        self.lets_in = stack.enter_context(HttpCamera(user="cam", password=plants("digest"), scheme="digest"))
        self.refuses = stack.enter_context(HttpCamera(user="cam", password="another"))
        self.redirects = stack.enter_context(HttpCamera())
        self.redirects.redirect = f"http://cam:{quote(plants('redirect'))}@127.0.0.1:{free_port()}/elsewhere"
        self.blames = stack.enter_context(HttpCamera())
        self.blames.answer = (200, "text/html", b"no picture")
        self.store = fake_store(folder / "models")
        self.credentials = folder / "credentials"
        self.credentials.mkdir()
        (self.credentials / "gate").write_text(plants("credential"))
        (folder / "password").write_text(plants("file") + "\n")
        self.path = folder / "site.yaml"
        self.path.write_text(yaml.safe_dump(self.content()), encoding="utf-8")

    @property
    def env(self) -> dict[str, str]:
        return {"CREDENTIALS_DIRECTORY": str(self.credentials), "STATE_DIRECTORY": str(self.folder / "state")}

    def content(self) -> dict[str, Any]:
        dead, plants = free_port(), self.plants
        uses = ["c"]

        def by(scheme: str, place: str, at: str) -> str:
            return f"{scheme}://cam:{quote(plants(place), safe='')}@{at}"

        sources: dict[str, Any] = {
            "works": {"type": "snapshot", "url": self.lets_in.snapshot, "username": "cam",
            "password": plants.all["digest"], "every": "100ms"},
            "refused": {"type": "snapshot", "url": self.refuses.snapshot, "username": "cam",
            "password": plants("refused")},
            "redirected": {"type": "snapshot", "url": self.redirects.snapshot, "username": "cam",
            "password": plants("before")},
            "blamed": {"type": "snapshot",
            "url": f"{self.blames.snapshot}?user=cam&pwd={plants('query', odd=False)}&n=1"},
            "mjpeg": by("http", "mjpeg", f"127.0.0.1:{self.refuses.port}/stream.mjpg"),
            "apart": {"type": "snapshot", "url": self.lets_in.snapshot, "username": "cam",
            "password": plants.all["digest"], "every": "100ms", "isolated": True},
            "crashed": {"type": "rtsp", "url": by("rtsp", "isolated", f"127.0.0.1:{dead}/s2"), "isolated": True},
            "rtsp": by("rtsp", "rtsp", f"127.0.0.1:{dead}/s1"),
            "path": f"rtsp://127.0.0.1:{dead}/user=admin_password={plants('path', odd=False)}_channel=1.sdp",
            "keys": {"type": "rtsp", "url": f"rtsp://127.0.0.1:{dead}/", "username": "cam",
            "password_file": str(self.folder / "password")},
            "handed": {"type": "rtsp", "url": f"http://127.0.0.1:{self.refuses.port}/stream.mjpg", "username": "cam",
            "password": "credential:gate"},
            "opencv": {"type": "opencv", "url": by("http", "opencv", f"127.0.0.1:{self.refuses.port}/stream.mjpg")},
            "nowhere": {"type": "opencv", "url": by("rtsp", "nowhere", f"127.0.0.1:{dead}/")},
            "gst": {"type": "gstreamer", "url": f"rtsp://127.0.0.1:{dead}/", "username": "cam",
            "password": plants("gst")},
            "pipeline": f"rtspsrc location={by('rtsp', 'pipeline', f'127.0.0.1:{dead}/')} ! decodebin",
            "user-pw": f"souphttpsrc location=http://127.0.0.1:{dead}/ user-id=cam "
                       f"user-pw={plants('user-pw', odd=False)} ! decodebin",
        }  # fmt: skip
        sinks = [
            {"type": "jsonl", "path": "-"},
            {"type": "mqtt", "url": self.broker.url, "username": USER, "password": plants("sink"), "client_id": "b"},
            {"type": "mqtt", "url": f"ws://127.0.0.1:{dead}/mqtt", "headers": {"Authorization": plants("header",
                odd=False)}},
            {"type": "mqtt", "url": self.broker.url, "client_id": "c", "username": USER, "password": "credential:gate",
             "proxy": {"url": f"http://127.0.0.1:{self.refuses.port}", "username": "me", "password": plants("proxy")}},
            {"type": "mqtt", "url": self.broker.url, "client_id": "d",
             "proxy": {"url": f"socks5://127.0.0.1:{dead}", "username": "me",
             "password_file": str(self.folder / "password")}},
        ]  # fmt: skip
        cameras: dict[str, Any] = {name: {"source": source, "models": uses} for name, source in sources.items()}
        cameras["works"]["rules"] = {"lit": {"type": "presence", "use": "c", "after": "0s", "score": 0.01}}
        cameras["works"]["snapshots"] = {"folder": str(self.folder / "kept"), "publish": True}
        return {
            "agent": {"name": "test"},
            "log": "debug",
            "mqtt": {"url": self.broker.url, "username": USER, "password": plants.all["broker"]},
            "sinks": sinks,
            "models": {"c": fake_model("classes") | {"threshold": 0.01}},
            "cameras": cameras,
            "commands": {"allow": ["reload", "snapshot"]},
        }


@pytest.fixture
def site(tmp_path: Path, plants: Plants) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, plants, stack)


def _mistaken(text: str) -> str:
    """The configuration with a key and its value run together, and a URL that is none."""
    return text.replace("  password: ", "  pasword: ", 1).replace("source: rtsp://cam", "source: rtps://cam", 1)


def _processes(agent: psutil.Process) -> str:
    """What `ps` shows of it and of all that it has started, with their environments."""
    said = []
    for process in (agent, *agent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            said.append(f"{process.name()} {process.cmdline()} {process.environ()}")
    return "\n".join(said)


def test_an_agent_gives_none_away(site: Site, plants: Plants) -> None:
    said: dict[str, str] = {}
    with (
        Subscriber(site.broker.observer_url, "#") as heard,
        Sightwire("run", site.path, models=site.store.root, env=site.env | {"PYTHONFAULTHANDLER": "1"}) as agent,
    ):
        agent.wait_for(lambda it: '"works/c/classification"' in it.out or "works/c/classification" in it.out)
        heard.wait_for(lambda messages: any(m.topic.endswith("works/c/classification") for m in messages))
        until(lambda: list((site.folder / "kept").rglob("*.jpg")))
        agent.wait_for(lambda it: "apart/c/classification" in it.out)
        for camera in site.content()["cameras"].keys() - {"works", "apart"}:
            agent.wait_for(lambda it, camera=camera: f" {camera}: " in it.err)
        said["processes"] = _processes(psutil.Process(agent.pid))
        assert "_isolated.child" in said["processes"]
        site.path.write_text(_mistaken(site.path.read_text(encoding="utf-8")), encoding="utf-8")
        agent.send(signal.SIGHUP)
        agent.wait_for_log("is wrong, going on", 20)
        heard.wait_for(lambda messages: any(b'"refused"' in m.payload and b"pasword" in m.payload for m in messages))
        assert agent.end(deadline_s=30) == 0
        said |= {"log": agent.err, "standard output": agent.out}
    said["messages"] = "\n".join(f"{m.topic} {m.payload!r}" for m in heard.messages)
    kept = [path for path in site.folder.rglob("*") if path.is_file() and site.folder / "state" in path.parents]
    kept += [path for path in (site.folder / "kept").rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in kept), kept
    said |= {path.name: f"{path} {path.read_bytes().decode('latin-1')}" for path in kept}
    assert "/status" in said["messages"]
    assert "/metrics" in said["messages"]
    assert {name: found for name, text in said.items() if (found := plants.found(text))} == {}


def test_commands_give_none_away(site: Site, plants: Plants) -> None:
    right = sightwire("check", site.path, models=site.store.root, env=site.env)
    assert right[0] == 0, right
    examined = sightwire("doctor", "--json", site.path, models=site.store.root, env=site.env, deadline_s=60)
    site.path.write_text(_mistaken(site.path.read_text(encoding="utf-8")), encoding="utf-8")
    wrong = sightwire("check", site.path, models=site.store.root, env=site.env)
    assert wrong[0] == 78
    dead = free_port()
    watched = sightwire("watch", f"mqtt://{USER}:{quote(plants('url'), safe='')}@127.0.0.1:{dead}")
    token = plants("token", odd=False)
    asked = sightwire("ask", f"ws://127.0.0.1:{dead}/mqtt?token={token}", "gatehouse", "reload", "--timeout", "0.1")
    assert (watched[0], asked[0]) == (2, 2)
    said = {"check": str(right), "doctor": str(examined), "check of what is wrong": str(wrong)}
    said |= {"watch": str(watched), "ask": str(asked)}
    assert {name: found for name, text in said.items() if (found := plants.found(text))} == {}


def test_a_fault_of_ours_that_nothing_catches_prints_a_traceback_without_the_password_in_it() -> None:
    """Of the main thread, of another one, of what cannot be raised, and of a worker, whose log goes another way."""
    code = (
        "import sys, threading, time\n"
        "from unittest import mock\n"
        "from agent import cli, log\n"
        "from agent.workers import Worker\n"
        "def fail(*_):\n"
        "    secret = 'rtsp://cam:gEhe1m@10.0.0.7/s1'\n"
        "    raise RuntimeError('cannot open ' + secret)\n"
        "class Odd:\n"
        "    __del__ = fail\n"
        "def app():\n"
        "    log.configure('debug')\n"
        "    Odd()\n"
        "    thread = threading.Thread(target=fail)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    worker = Worker('w', fail)\n"
        "    worker.stop.set()\n"
        "    worker.start()\n"
        "    worker.join(5)\n"
        "    fail()\n"
        "with mock.patch('agent.commands._app.app', app):\n"
        "    cli.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.count("RuntimeError: cannot open rtsp://***@10.0.0.7/s1") == 4, ended.stderr
    assert "gEhe1m" not in ended.stdout + ended.stderr.replace("secret = 'rtsp://cam:gEhe1m@10.0.0.7/s1'", "")
