"""`scripts/prove container [--build OPTIONS] [--run OPTIONS] [--also FILE] [--image NAME] [--write]`: its life.

`container/compose.yaml` as it is, with podman and podman-compose or with docker. What this machine needs besides comes
in `--build`, `--run` and `--also`: its package index, its limits. Needs root, mosquitto, and RTSP cameras of GStreamer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from agent.exits import EX_CONFIG
from tests.prove.record import section, table
from tests.prove.service import Timed
from tests.support.broker import USER, Mosquitto, Subscriber
from tests.support.clips import Clip
from tests.support.needs import missing
from tests.support.nspawn import Done
from tests.support.process import ROOT
from tests.support.rtsp import RtspServer
from tests.support.site import CONFIG, HANGS, MODEL, PASSWORD, RESULTS, STATUS
from tests.support.waiting import until

FILES = ROOT / "container"
UID = 10001
IMAGE = "localhost/sightwire-of-the-proof"
PROJECT = "sightwire-proof"
TRIES = 3
INSIDE = """
set -e
id -u
set -- $(cat /proc/1/task/1/children)
grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/$1/status
touch /tmp/mine /var/lib/sightwire/mine && rm /tmp/mine /var/lib/sightwire/mine
for place in /opt/sightwire /etc/sightwire /run/secrets /usr; do
    ! touch $place/mine 2>/dev/null || { echo "$place can be written"; exit 1; }
done
"""


@dataclass
class Life:
    """The containers of one compose file, and the broker that its agent speaks to."""

    folder: Path
    engine: str
    compose: list[str]
    subscriber: Subscriber
    config: str

    def do(self, *words: str, fails: bool = False, deadline_s: float = 300) -> Done:
        """A command to its end. Raises AssertionError where it fails."""
        done = subprocess.run(
            words, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_s
        )
        assert fails or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"[-4000:]
        return Done(done.returncode, done.stdout, done.stderr)

    def composed(self, *words: str, fails: bool = False, deadline_s: float = 300) -> Done:
        """A command of compose."""
        return self.do(*self.compose, *words, fails=fails, deadline_s=deadline_s)

    def once(self, *words: str, options: Sequence[str] = (), ends: int = 0) -> str:
        """`sightwire WORDS` in a container of its own, with that status; all that it says."""
        done = self.composed("run", "--rm", "-T", *options, "sightwire", *words, fails=True)
        said = done.out + done.err
        assert done.status == ends, f"{words}: {done.status}\n{said[-4000:]}"
        return said

    def up(self) -> None:
        """Started, in the background."""
        self.composed("up", "--detach", "--no-build")

    def container(self) -> str:
        """Its name."""
        filters = ("--filter", f"label=com.docker.compose.project={PROJECT}", "--format", "{{.Names}}")
        return self.do(self.engine, "ps", "--all", *filters).out.strip()

    def state(self, key: str) -> object:
        """What the engine knows of it: `State.Status`, `RestartCount`, ..."""
        found = json.loads(self.do(self.engine, "inspect", self.container()).out)[0]
        for part in key.split("."):
            found = found[part]
        return found

    def log(self) -> str:
        """All that it said, of both streams."""
        done = self.do(self.engine, "logs", self.container())
        return done.out + done.err

    def kill(self, signal: str) -> None:
        """A signal to the container's first process, which hands it on."""
        self.composed("kill", "-s", signal, "sightwire")

    def put(self, config: str) -> None:
        """Another configuration in the place of the old one, as editors write files."""
        new = self.folder / "config" / "site.yaml.new"
        new.write_text(config)
        new.rename(new.with_name("site.yaml"))

    def until(self, what: Callable[[], bool], deadline_s: float = 60) -> None:
        """Raises AssertionError with the end of the log."""
        try:
            until(what, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log ends with\n{self.log()[-3000:]}") from None

    def sees(self) -> str:
        """A result of a picture that was taken after this call comes to the broker."""
        since_ns = time.monotonic_ns()
        self.subscriber.wait_for(
            lambda messages: any(m.topic == RESULTS and m.arrived_ns > since_ns for m in messages[-200:]), 90
        )
        return "results again"

    def said(self) -> dict[str, object]:
        """The newest status at the broker."""
        found: dict[str, object] = self.subscriber.wait_for_topic(STATUS).data
        return found


def main() -> None:
    """Build, live, and with `--write` record."""
    parser = argparse.ArgumentParser(prog="scripts/prove container", description=__doc__)
    parser.add_argument("--build", default="", metavar="OPTIONS", help="of the engine's build, in one word")
    parser.add_argument("--run", default="", metavar="OPTIONS", help="of compose's run, for the model that is fetched")
    parser.add_argument("--also", type=Path, metavar="FILE", help="a compose file on top of the project's")
    parser.add_argument("--image", help="one that is there, instead of building")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    asked = parser.parse_args()
    given = [f"--{name} ..." for name in ("build", "run", "also", "image") if getattr(asked, name)]
    engine = next(filter(shutil.which, ("podman", "docker")), None) or missing("podman or docker")
    program = (
        [shutil.which("podman-compose") or missing("podman-compose")] if engine == "podman" else [engine, "compose"]
    )
    timed = Timed()
    with (
        tempfile.TemporaryDirectory(prefix="prove-container-") as name,
        Mosquitto(Path(name), password=PASSWORD) as broker,
        Subscriber(broker.observer_url) as subscriber,
        RtspServer(Clip(gop=10)) as camera,
    ):
        folder = Path(name) / "site"
        config = CONFIG.format(broker=broker.url, user=USER, model=MODEL, camera=camera.urls[0])
        prepare(folder, config, asked.image or IMAGE)
        files = ["compose.yaml", "proof.yaml", *([str(asked.also.absolute())] if asked.also else [])]
        compose = [*program, "-p", PROJECT, *(word for file in files for word in ("-f", file))]
        life = Life(folder, engine, compose, subscriber, config)
        version = life.do(engine, "--version").out.strip()
        try:
            if not asked.image:
                timed("build", lambda: built(life, shlex.split(asked.build)))
            prove(life, timed, shlex.split(asked.run))
        finally:
            life.composed("down", "-v", fails=True)
            if not asked.image:
                life.do(engine, "rmi", IMAGE, fails=True)
    if asked.write:
        section(
            "container",
            "The container",
            " ".join(["scripts/prove container", *given]),
            f"{version}; `container/Containerfile` for any CPU, run by `container/compose.yaml`: read-only, no "
            "capabilities, uid 10001, a secret for the broker's password; EfficientNet-Lite0 INT8 on OpenVINO, a "
            "network camera over RTSP. Added for the proof: a module that hangs the main thread when it is asked to."
            "\n\n" + table(("case", "found", "seconds"), timed.rows),
        )


def prepare(folder: Path, config: str, image: str) -> None:
    """The compose file, and what lies beside it on a user's machine."""
    hangs = folder / "hangs"
    hangs.mkdir(parents=True)
    (folder / "config").mkdir()
    shutil.copy(FILES / "compose.yaml", folder)
    (folder / "config" / "site.yaml").write_text(config)
    secret = folder / "mqtt.password"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o400)
    os.chown(secret, UID, -1)
    (hangs / "sitecustomize.py").write_text(HANGS)
    more = {"image": image, "volumes": ["./hangs:/srv/hangs:ro"], "environment": {"PYTHONPATH": "/srv/hangs"}}
    (folder / "proof.yaml").write_text(yaml.safe_dump({"services": {"sightwire": more}}))


def built(life: Life, options: list[str]) -> str:
    """As the file's first lines say."""
    file = ("-f", str(FILES / "Containerfile"))
    life.do(life.engine, "build", *options, "-t", IMAGE, *file, str(ROOT), deadline_s=3600)
    base = re.findall(r"\bBASE=(\S+)", f"{(FILES / 'Containerfile').read_text()} {' '.join(options)}")[-1]
    return f"{size_mb(life, IMAGE):.0f} MB, {size_mb(life, base):.0f} MB of them the base"


def size_mb(life: Life, image: str) -> float:
    """All layers, unpacked."""
    return int(life.do(life.engine, "image", "inspect", "--format", "{{.Size}}", image).out) / 1e6


def prove(life: Life, timed: Timed, options: list[str]) -> None:
    """Every case in the order of a container's life."""

    def examined() -> str:
        said = life.once("doctor", "/etc/sightwire/site.yaml")
        assert ", in a container" in said, said
        return "exit 0"

    def started() -> str:
        life.up()
        life.sees()
        return str(life.said()["engines"]["scene"]["backend"])  # type: ignore[index]

    def confined() -> str:
        said = life.composed("exec", "-T", "sightwire", "sh", "-c", INSIDE).out.split()
        assert said == [str(UID), "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"], said
        return f"uid {UID}, no capabilities, no new privileges, only state and /tmp can be written"

    def read_again() -> str:
        began = life.state("State.StartedAt")
        life.put(life.config.replace("dock:", "dock: # moved\n    crop: [0, 0, 0.5, 1]"))
        life.kill("HUP")
        life.until(lambda: "read again" in life.log())
        life.sees()
        life.put(life.config.replace("source:", "sorce:"))
        life.kill("HUP")
        life.until(lambda: "did you mean 'source'?" in life.log())
        life.sees()
        life.put(life.config)
        assert life.state("State.StartedAt") == began
        return "taken in; a wrong one is refused, and the old one serves"

    def another(end: Callable[[], object]) -> str:
        before = life.state("State.StartedAt")
        end()
        life.until(lambda: life.state("State.StartedAt") != before)
        return f"{life.sees()}, restarts: {life.state('RestartCount')}"

    def crashed() -> str:
        kill = "kill -9 $(cat /proc/1/task/1/children)"
        return another(lambda: life.composed("exec", "-T", "sightwire", "sh", "-c", kill))

    def hung() -> str:
        found = another(lambda: life.kill("USR1"))
        assert "sitecustomize.py" in life.log()
        return f"{found}, the log says where it stood"

    def stopped() -> str:
        life.composed("stop")
        assert life.state("State.ExitCode") == 0, life.log()[-3000:]
        life.until(lambda: life.said()["state"] == "offline")
        return "exit 0, offline"

    def again() -> str:
        life.composed("down")
        life.up()
        found = life.sees()
        life.composed("down")
        return f"{found}, with the volume's model"

    def wrong() -> str:
        life.put(life.config.replace("source:", "sorce:"))
        life.once("run", "/etc/sightwire/site.yaml", ends=EX_CONFIG)
        life.up()
        life.until(lambda: life.log().count("did you mean 'source'?") >= TRIES)
        life.put(life.config)
        return f"exit {EX_CONFIG}, tried again; mended: {life.sees()}"

    timed("`sightwire --version`", lambda: re.findall("^sightwire .*", life.once("--version"), re.MULTILINE)[0])
    timed("a model is fetched into the volume", lambda: life.once("models", "pull", MODEL, options=options) and MODEL)
    timed("`sightwire doctor`", examined)
    timed("up: first result", started)
    timed("what it may", confined)
    timed("SIGHUP, the file replaced", read_again)
    timed("killed (SIGKILL)", crashed)
    timed("hung: ended by its own watchdog", hung)
    timed("stop (SIGTERM)", stopped)
    timed("another container on the same volume", again)
    timed("a wrong configuration at the start", wrong)


if __name__ == "__main__":
    sys.exit(main())
