"""What the agent is compared with, each a program of its own: `python -m tests.prove.baselines naive|bare|decode ...`.

naive: read, prepare, infer (all threads, one picture at a time), publish, in turn: what everybody writes first.
bare: the engine with ready-made tensors and nothing else. decode: PyAV and nothing else. loop: hand-written threads,
newest frame wins, one engine: what a careful person writes in a day.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import cv2
import numpy as np

from engines.backends.openvino import Config
from engines.card import model_file
from engines.model import open_model, task_config
from engines.pixels import Image, Picture, fit
from engines.quiet import import_openvino
from engines.store import ModelStore, default_root
from engines.tasks import Options


def naive(model: str, video: str, broker: str, threads: str) -> None:
    """One frame after another, with OpenCV, OpenVINO and paho as their tutorials show them."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    host, port = broker.removeprefix("mqtt://").split(":")
    card, folder = ModelStore(default_root()).find(model)
    task = task_config(card).open(card.labels, Options())
    ov = import_openvino()
    core = ov.Core()
    graph = core.read_model(model_file(card, folder, "int8"))
    width, height = card.input.width, card.input.height
    graph.reshape([1, 3, height, width])
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": int(threads), "PERFORMANCE_HINT": "LATENCY"})
    names = list(task_config(card).outputs(len(card.labels), (width, height)))
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(host, int(port))
    client.loop_start()
    capture, seq = cv2.VideoCapture(video), 0
    while True:
        good, bgr = capture.read()
        if not good:
            break
        rgb = cv2.cvtColor(cv2.resize(bgr, (width, height)), cv2.COLOR_BGR2RGB)
        output = compiled(np.ascontiguousarray(rgb.transpose(2, 0, 1))[None])
        raw = {name: output[name] for name in names}
        (found,) = task.read(raw, [fit((bgr.shape[1], bgr.shape[0]), None, card.input)])
        rows = [
            {"label": card.labels[label], "score": score, "box": box}
            for label, score, box in zip(found.label.tolist(), found.score.tolist(), found.xyxy.tolist(), strict=True)
        ]
        client.publish("naive/camera/people/detections", json.dumps({"seq": seq, "detections": rows}))
        seq += 1
    client.publish("naive/end", "{}", qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def bare(model: str, threads: str, seconds: str) -> None:
    """Print inferences a second of the engine alone, on tensors that are there."""
    from agent.bench import network

    card, folder = ModelStore(default_root()).find(model)
    opened = open_model(card, folder, "int8", Config(threads=int(threads)))
    image = Image((np.zeros((576, 768, 3), np.uint8),), "bgr", "601", "full", (768, 576))
    print(network(opened, image, float(seconds)).per_second)
    opened.close()


def decode(url: str, seconds: str) -> None:
    """Print CPU ms a frame of PyAV's own loop."""
    import av

    frames, started, cpu = 0, 0.0, 0.0
    with av.open(url, options={"rtsp_transport": "tcp", "analyzeduration": "100000"}, timeout=(5, 5)) as container:
        container.streams.video[0].thread_count = 1
        for _ in container.decode(video=0):
            if not frames:
                started, cpu = time.monotonic(), time.process_time()
            frames += 1
            if time.monotonic() - started > float(seconds):
                break
        print((time.process_time() - cpu) / max(1, frames - 1) * 1e3)


def loop(model: str, seconds: str, broker: str, *urls: str) -> None:
    """Print frames a second a camera: a thread a camera keeps its newest frame, an engine a core takes turns."""
    import av
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    host, port = broker.removeprefix("mqtt://").split(":")
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(host, int(port))
    client.loop_start()
    card, folder = ModelStore(default_root()).find(model)
    cv2.setNumThreads(1)
    newest: dict[int, tuple[int, Image]] = {}
    ready, ended = threading.Condition(), threading.Event()

    def read(index: int, url: str) -> None:
        options = {"rtsp_transport": "tcp", "analyzeduration": "100000"}
        with av.open(url, options=options, timeout=(5, 5)) as container:
            container.streams.video[0].thread_count = 1
            for frame in container.decode(video=0):
                planes = tuple(
                    np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.planes
                )
                image = Image(planes, "i420", "709", "limited", (frame.width, frame.height))
                with ready:
                    newest[index] = (time.monotonic_ns(), image)
                    ready.notify()
                if ended.is_set():
                    return

    cameras = [threading.Thread(target=read, args=item, daemon=True) for item in enumerate(urls)]
    for camera in cameras:
        camera.start()
    ages: list[float] = []
    lock = threading.Lock()

    def infer() -> None:
        opened = open_model(card, folder, "int8", Config(threads=1))
        while not ended.is_set():
            with ready:
                if not ready.wait_for(lambda: newest, 0.5):
                    continue
                index = min(newest, key=lambda i: newest[i][0])
                stamp_ns, image = newest.pop(index)
            (found,) = opened([Picture(image)])
            labels = [card.labels[label] for label in found.label.tolist()]
            rows = [{"label": label, "score": score} for label, score in zip(labels, found.score.tolist(), strict=True)]
            client.publish(f"loop/{index}/classification", json.dumps({"stamp": stamp_ns, "classes": rows}))
            with lock:
                ages.append((time.monotonic_ns() - stamp_ns) / 1e6)

    workers = [threading.Thread(target=infer) for _ in range(len(os.sched_getaffinity(0)))]
    for worker in workers:
        worker.start()
    ended.wait(float(seconds) / 4)  # warm-up
    ages.clear()
    started = time.monotonic()
    ended.wait(float(seconds))
    count, took = len(ages), time.monotonic() - started
    p95 = float(np.percentile(ages, 95)) if ages else float("nan")
    ended.set()
    for thread in [*workers, *cameras]:
        thread.join(6)
    client.disconnect()
    client.loop_stop()
    print(json.dumps({"per_camera": count / took / len(urls), "p95_ms": p95}))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
