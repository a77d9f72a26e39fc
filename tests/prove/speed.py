"""The speed figures: `scripts/prove speed [--write] [--only NAME] [--seconds S] [--video FILE]`.

Every comparison is made in turns within one run: medians and ratios hold on a machine whose speed drifts, absolute
times do not.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import yaml

from agent.commands._fetch import fetch_video, pull_with_bar
from engines.store import ModelStore, default_root
from tests.prove.record import section, table
from tests.support.broker import Mosquitto, Subscriber
from tests.support.rtsp import RtspServer

PEOPLE, SCENE = "person-ssdlite", "efficientnet-lite0"
ROOT = Path(__file__).parents[2]
AGES = 3
"""Cameras whose ages are watched for long: what a slow two-core machine carries."""


@dataclass(frozen=True)
class Setting:
    """What all figures share."""

    folder: Path
    broker: Mosquitto
    video: Path
    """768x576, MPEG-4 in AVI."""
    clip: Path
    """1280x720 at 30 frames/s, H.264 baseline, key frame each second."""
    seconds: float
    rounds: int


def program(*arguments: str) -> str:
    """What one of the baselines prints."""
    command = [sys.executable, "-m", "tests.prove.baselines", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def agent(setting: Setting, document: dict) -> Iterator[psutil.Process]:
    """`sightwire run` on a configuration, stopped at the end."""
    path = setting.folder / "speed.yaml"
    path.write_text(yaml.safe_dump(document))
    child = subprocess.Popen([sys.executable, "-m", "agent", "run", str(path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(15)


def config(setting: Setting, model: str, sources: list, threads: int | None = None) -> dict:
    """A configuration: every source with that model on every frame."""
    backend = {"type": "openvino"} | ({"threads": threads} if threads else {})
    return {
        "agent": {"name": "speed"},
        "mqtt": {"url": setting.broker.url},
        "models": {"model": {"model": model, "backend": backend}},
        "cameras": {f"c{i}": {"source": source, "models": ["model"]} for i, source in enumerate(sources)},
    }


def rate(subscriber: Subscriber, kind: str) -> float:
    """Results a second between the first and the last that arrived, first tenth left out."""
    at = [m.arrived_ns for m in subscriber.messages if m.topic.endswith(kind)]
    at = at[len(at) // 10 :]
    return (len(at) - 1) / (at[-1] - at[0]) * 1e9


def file_rates(setting: Setting) -> str:
    """End to end over a file against the bare engine and a naive loop."""
    rows: dict[str, list[float]] = {name: [] for name in ("bare 1", "agent 1", "bare 2", "agent 2", "naive 2")}
    for _ in range(setting.rounds):
        for threads in (1, 2):
            rows[f"bare {threads}"].append(float(program("bare", PEOPLE, str(threads), str(setting.seconds))))
            with Subscriber(setting.broker.observer_url, "sightwire/speed/#") as heard:
                with agent(setting, config(setting, PEOPLE, [str(setting.video)], threads)) as process:
                    process.wait(600)
                heard.wait_for(lambda ms: any(m.topic.endswith("/speed/status") for m in ms))
                rows[f"agent {threads}"].append(rate(heard, "/detections"))
        with Subscriber(setting.broker.observer_url, "naive/#") as heard:
            program("naive", PEOPLE, str(setting.video), setting.broker.url, "2")
            heard.wait_for_topic("naive/end")
            rows["naive 2"].append(rate(heard, "/detections"))
    medians = {name: median(values) for name, values in rows.items()}
    one = median(a / b for a, b in zip(rows["agent 1"], rows["bare 1"], strict=True))
    two = median(a / n for a, n in zip(rows["agent 2"], rows["naive 2"], strict=True))
    return (
        table(("person-ssdlite INT8, 768x576 file", "frames/s"), [(n, f"{v:.1f}") for n, v in medians.items()])
        + f"\nEngine on one thread: {one:.2f} of the bare engine (wanted: 0.85). "
        + f"Both cores: {two:.2f} times the naive loop (wanted: 1.4). Medians of {setting.rounds} rounds.\n"
    )


def losses(setting: Setting) -> str:
    """Where the agent's time goes, stage by stage."""
    path = setting.folder / "losses.yaml"
    document = config(setting, PEOPLE, [str(setting.video)], 1)
    path.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "agent", "bench", str(path), "--json", "--seconds", str(setting.seconds)]
    report = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    decode, prepare = report["decode"]["c0"], report["prepare"]["model"]
    network, whole = report["network"]["model"], report["whole"]
    rows = [
        ("decode alone", f"{decode['cpu_ms']:.2f} (CPU)"),
        ("pixels to tensor alone", f"{prepare['ms']:.2f}"),
        ("engine alone", f"{1000 / network['per_second']:.2f}"),
        ("end to end", f"{1000 / whole['per_second']:.2f}"),
    ]
    return table(("stage, engine on one thread", "ms a frame"), rows) + f"\n{whole['cpu_cores']} cores busy.\n"


STAGES = ("picture here", "wait", "prepare", "infer", "read", "publish, deliver")


def latency(setting: Setting) -> str:
    """From the camera's push of a frame to its message at a subscriber, one 720p30 camera, through each reader."""
    readers = {
        "FFmpeg (`rtsp`)": ("rtsp", "45", "55"),
        "GStreamer (`gstreamer`)": ("gstreamer", "13", ""),
    }
    found: dict[str, list[list[float]]] = {name: [] for name in readers}
    with RtspServer(setting.clip) as camera:
        for _ in range(setting.rounds):
            for name, (kind, _, _) in readers.items():
                source = {"type": kind, "url": camera.urls[0]}
                found[name] += _latencies(setting, camera, source, max(4.0, setting.seconds * 3 / setting.rounds))
    rows, stages = [], []
    for name, (_, median_ms, p95_ms) in readers.items():
        taken = np.array(found[name])
        p50, p95 = np.percentile(taken.sum(axis=1), [50, 95])
        rows.append((name, f"{p50:.1f}", median_ms, f"{p95:.1f}", p95_ms, len(taken)))
        stages.append((name, *(f"{value:.1f}" for value in np.median(taken, axis=0))))
    header = ("RTSP 720p30 over TCP, push to subscriber, ms", "median", "wanted", "p95", "wanted", "n")
    parts = table(("where it goes, medians, ms", *STAGES), stages)
    return f"{table(header, rows)}\n{parts}\nIn turns, {setting.rounds} rounds.\n"


def _latencies(setting: Setting, camera: RtspServer, source: dict, seconds: float) -> list[list[float]]:
    """Milliseconds of each stage, of the pictures after the camera's first RTCP report."""
    with (
        Subscriber(setting.broker.observer_url, "sightwire/speed/+/+/detections") as heard,
        agent(setting, config(setting, PEOPLE, [source])),
    ):
        heard.wait_for(lambda ms: any(json.loads(m.payload)["clock"] == "rtcp" for m in ms[-3:]), 20)
        begun = len(heard.messages)
        found: list[list[float]] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            heard.wait_for(lambda ms: len(ms) > begun + len(found), 5)
            found.append(_stages(camera, heard.messages[begun + len(found)]))
    return found


def _stages(camera: RtspServer, message) -> list[float]:
    """Milliseconds from the push that the message's capture time names: the camera's clock is this machine's."""
    said = json.loads(message.payload)
    captured_ns, received_ns = _monotonic_ns(said["captured_at"]), _monotonic_ns(said["received_at"])
    pushed_ns = min((camera.pushed_ns(i) for i in range(camera.frames)), key=lambda at: abs(at - captured_ns))
    inside = [said["timing_ms"][stage] for stage in ("wait", "prepare", "infer", "read")]
    here = (received_ns - pushed_ns) / 1e6
    return [here, *inside, (message.arrived_ns - pushed_ns) / 1e6 - here - sum(inside)]


def _monotonic_ns(stamp: str) -> int:
    seconds, micros = time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"), int(stamp[20:26])
    return calendar.timegm(seconds) * 10**9 + micros * 1000 - time.time_ns() + time.monotonic_ns()


def cameras(setting: Setting) -> str:
    """Many 720p30 cameras, every frame classified: until it breaks."""
    rows = []
    for count in (1, 2, 3, 4, 5, 8, 12):
        with RtspServer(setting.clip, mounts=count) as server:
            ours = _hold(setting, server, setting.seconds * 2)
            # Somebody listens to both: a message that nobody takes costs the machine less.
            with Subscriber(setting.broker.observer_url, "loop/#"):
                theirs = json.loads(program("loop", SCENE, str(setting.seconds * 2), setting.broker.url, *server.urls))
        rows.append((count, *ours, f"{theirs['per_camera']:.1f}", f"{theirs['p95_ms']:.0f}"))
        if float(ours[0]) < 20 and theirs["per_camera"] < 20:
            break
    header = ("cameras", "frames/s each", "slowest", "age p95 ms", "cores", "hand-written loop: frames/s", "p95 ms")
    note = "Ages are from the camera's push; the loop's, from its decoder, leave out the frame that FFmpeg holds.\n"
    return table(header, rows) + "\n" + note


def _hold(setting: Setting, server: RtspServer, seconds: float) -> tuple[str, ...]:
    with (
        Subscriber(setting.broker.observer_url, "sightwire/speed/+/+/classification") as heard,
        agent(setting, config(setting, SCENE, server.urls)) as process,
    ):
        names = {f"sightwire/speed/c{i}/model/classification" for i in range(len(server.urls))}
        heard.wait_for(lambda ms: names <= {m.topic for m in ms}, 40)
        begun, cpu, started = len(heard.messages), sum(process.cpu_times()[:2]), time.monotonic()
        with contextlib.suppress(TimeoutError):
            heard.wait_for(lambda _: time.monotonic() - started > seconds, seconds + 5)
        took, used = time.monotonic() - started, sum(process.cpu_times()[:2]) - cpu
        messages = heard.messages[begun:]
    each = [sum(m.topic == name for m in messages) / took for name in names]
    ages = [json.loads(m.payload)["age_ms"] for m in messages]
    p95 = float(np.percentile(ages, 95))
    return f"{np.mean(each):.1f}", f"{min(each):.1f}", f"{p95:.0f}", f"{used / took:.2f}"


def ages_over_time(setting: Setting) -> str:
    """Whether ages grow: the most cameras that the machine carries, for five minutes."""
    with (
        RtspServer(setting.clip, mounts=AGES) as server,
        Subscriber(setting.broker.observer_url, "sightwire/speed/+/+/classification") as heard,
        agent(setting, config(setting, SCENE, server.urls)),
    ):
        started = time.monotonic()
        length = setting.seconds * 30
        heard.wait_for(lambda _: time.monotonic() - started > length, length + 30)
        ages = [json.loads(m.payload)["age_ms"] for m in heard.messages]
    fifth = len(ages) // 5
    parts = [float(np.percentile(ages[i * fifth : (i + 1) * fifth], 95)) for i in range(5)]
    fifths = ", ".join(f"{part:.0f}" for part in parts)
    return f"{AGES} cameras for {length:.0f} s, age p95 by fifths of the time, ms: {fifths}.\n"


def start(setting: Setting) -> str:
    """From the command to the first message."""
    rows = []
    with RtspServer(setting.clip) as server:
        for name, source in (("file", str(setting.video)), ("RTSP camera", server.urls[0])):
            times = []
            for _ in range(setting.rounds + 2):
                with Subscriber(setting.broker.observer_url, "sightwire/speed/+/+/detections") as heard:
                    began = time.monotonic_ns()
                    with agent(setting, config(setting, PEOPLE, [source])):
                        times.append((heard.wait_for(bool, 20)[0].arrived_ns - began) / 1e9)
            rows.append((name, f"{median(times):.2f}", f"{max(times):.2f}"))
    return table(("start to first message, s (wanted: 1.5)", "median", "most"), rows)


def capture(setting: Setting) -> str:
    """CPU of reading an RTSP camera, against a bare PyAV loop."""
    document = config(setting, PEOPLE, ["URL"])
    ratios, ours, bares = [], [], []
    with RtspServer(setting.clip) as server:
        document["cameras"]["c0"]["source"] = server.urls[0]
        for _ in range(setting.rounds):
            bares.append(float(program("decode", server.urls[0], str(setting.seconds))))
            ours.append(_capture_ms(server.urls[0], setting.seconds))
            ratios.append(ours[-1] / bares[-1])
    return (
        f"Capture, 720p30 RTSP: {median(ours):.2f} ms of CPU a frame, bare PyAV loop {median(bares):.2f}: "
        f"{median(ratios):.2f} times (wanted: 1.25).\n"
    )


def _capture_ms(url: str, seconds: float) -> float:
    code = (
        "import sys; from agent.bench import decode; from agent.sources.network import Config\n"
        "print(decode(Config(url=sys.argv[1]), float(sys.argv[2]))[0].cpu_ms)"
    )
    command = [sys.executable, "-c", code, url, str(seconds)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def memory(setting: Setting) -> str:
    """RSS with one camera, over ten minutes."""
    length = setting.seconds * 60
    with (
        RtspServer(setting.clip) as server,
        Subscriber(setting.broker.observer_url, "sightwire/speed/+/+/detections") as heard,
        agent(setting, config(setting, PEOPLE, server.urls)) as process,
    ):
        heard.wait_for(bool, 20)
        started, rss = time.monotonic(), []
        while (now := time.monotonic() - started) < length:
            rss.append((now, process.memory_info().rss / 1e6))
            until = time.monotonic() + length / 60
            heard.wait_for(lambda _, until=until: time.monotonic() > until, length / 60 + 5)
    warm = [r for at, r in rss if at > length / 10]
    return (
        f"RSS, one 720p30 camera, {length:.0f} s: {warm[0]:.0f} MB after warm-up, {warm[-1]:.0f} at the end, "
        f"most {max(warm):.0f} (wanted: 250, flat).\n"
    )


FIGURES: dict[str, Callable[[Setting], str]] = {
    "file": file_rates,
    "losses": losses,
    "latency": latency,
    "start": start,
    "capture": capture,
    "cameras": cameras,
    "ages": ages_over_time,
    "memory": memory,
}


def _clips(folder: Path, video: Path | None) -> tuple[Path, Path]:
    street = video or fetch_video(default_root().parent / "demo")
    base = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-stream_loop", "-1", "-i", str(street)]
    file, clip = folder / "street.avi", folder / "street.mp4"
    old = ["-t", "40", "-vf", "scale=768:576,fps=20", "-c:v", "mpeg4", "-q:v", "5", "-an", str(file)]
    camera = ["-t", "10", "-vf", "scale=1280:720,fps=30,format=yuv420p", "-c:v", "libx264", "-profile:v", "baseline"]
    camera += ["-preset", "veryfast", "-g", "30", "-b:v", "4M", "-an", str(clip)]
    for what in (old, camera):
        subprocess.run([*base, *what], check=True)
    return file, clip


def main() -> None:
    """Measure, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove speed", description=__doc__)
    parser.add_argument("--write", action="store_true", help="record in docs/measurements.md")
    parser.add_argument("--only", choices=FIGURES, action="append", help="only this figure; may be repeated")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="length of one measurement; the soaks take 30 to 60 of it"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--video", type=Path, help="instead of the demo's street video")
    options = parser.parse_args()
    for name in (PEOPLE, SCENE):
        pull_with_bar(name, ModelStore(default_root()))
    with tempfile.TemporaryDirectory(prefix="prove-") as temporary:
        folder = Path(temporary)
        file, clip = _clips(folder, options.video)
        broker = Mosquitto(folder)
        try:
            setting = Setting(folder, broker, file, clip, options.seconds, options.rounds)
            for name in options.only or FIGURES:
                body = FIGURES[name](setting)
                print(f"## {name}\n\n{body}", flush=True)
                if options.write:
                    chosen = f" --only {name} --seconds {options.seconds:g} --rounds {options.rounds}"
                    section(f"speed-{name}", f"Speed: {name}", f"scripts/prove speed{chosen}", body)
        finally:
            broker.kill()


if __name__ == "__main__":
    main()
