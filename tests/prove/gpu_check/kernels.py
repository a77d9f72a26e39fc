"""The preparation kernel on a GPU: its numbers against the CPU's, in a graph too, and how fast it is.

`python -m tests.prove.gpu_check.part numbers` is what compute-sanitizer watches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.card import Input
from engines.cuda import nvrtc
from engines.cuda.driver import Driver, Handle
from engines.cuda.preparing import BLOCK, KERNEL, SOURCE, Staged, grid, stage
from engines.pixels import Geometry, Picture, PixelFormat, TensorWriter, fit
from tests.prove.gpu_check.pictures import image
from tests.prove.gpu_check.timing import Lane

FORMATS: tuple[PixelFormat, ...] = ("nv12", "i420", "bgr", "rgb", "gray")
REGIONS = (None, (100, 50, 741, 407), (10, 10, 60, 40))
INPUTS = (Input(width=320, height=320, fit="letterbox"), Input(width=224, height=224, fit="crop"),
          Input(width=416, height=416, fit="stretch", resize="linear"))  # fmt: skip
TIMED: dict[str, tuple[PixelFormat, tuple[int, int], Input]] = {
    "nv12 1280x720 to 320x320": ("nv12", (1280, 720), Input(width=320, height=320, fit="letterbox")),
    "nv12 1920x1080 to 640x640": ("nv12", (1920, 1080), Input(width=640, height=640, fit="letterbox")),
    "i420 1280x720 to 416x416": ("i420", (1280, 720), Input(width=416, height=416, fit="letterbox")),
    "bgr 640x480 to 224x224": ("bgr", (640, 480), Input(width=224, height=224, fit="crop")),
}
BATCH = 8


class Kernel:
    """The kernel, loaded, with memory of its own for one batch after another."""

    def __init__(self, driver: Driver, taken: ExitStack) -> None:
        self._driver, self._taken = driver, taken
        source = SOURCE.read_text(encoding="utf-8")
        module = driver.load(nvrtc.compile(source, driver.facts.compute_capability))
        taken.callback(driver.unload, module)
        self._function = driver.function(module, KERNEL)

    def launch(self, staging: int, tensor: int, size: tuple[int, int], rows: int, stream: Handle) -> None:
        """Put it into a stream."""
        self._driver.launch(self._function, grid(size, rows), BLOCK, (staging, tensor), stream)

    def upload(self, staged: Staged, lane: Lane) -> int:
        """Address of a staging block with that batch in it."""
        address, pinned = self._driver.allocate(staged.size), self._driver.pin(staged.size)
        self._taken.callback(self._driver.free, address)
        staged.write(pinned.view)
        lane.seconds(lambda _: self._driver.copy_in(address, pinned.view, lane.stream), 1)
        self._driver.unpin(pinned)
        return address

    def room(self, size: int) -> int:
        """Address of so many bytes."""
        address = self._driver.allocate(size)
        self._taken.callback(self._driver.free, address)
        return address


def agreement(driver: Driver) -> dict[str, Any]:
    """Largest difference from the CPU's tensors in levels, over formats, geometries and regions; and in a graph.

    `graph_levels` is None where the binding has no graphs.
    """
    worst, cases, graph_worst = 0, 0, 0
    with ExitStack() as taken:
        kernel = Kernel(driver, taken)
        lane = Lane(driver)
        taken.callback(lane.close)
        for into, region in itertools.product(INPUTS, REGIONS):
            pictures = [Picture(image(f, seed=seed), region) for seed, f in enumerate(FORMATS)]
            geometries = [fit(picture.image.size, region, into) for picture in pictures]
            tensors = _tensors(driver, kernel, lane, pictures, geometries)
            wanted = _by_cpu(pictures, geometries)
            worst = max(worst, int(np.abs(wanted - tensors[0][: len(pictures)]).max()))
            graph_worst = max(graph_worst, int(np.abs(tensors[0] - tensors[-1]).max()))
            cases += len(pictures)
    return {"cases": cases, "levels": worst, "graph_levels": graph_worst if driver.graphs else None}


def _tensors(
    driver: Driver, kernel: Kernel, lane: Lane, pictures: Sequence[Picture], geometries: Sequence[Geometry]
) -> list[NDArray[np.int16]]:
    """(N, 3, H, W) as the kernel writes it: launched, and as a graph, where the binding has graphs.

    One more row than there are pictures.
    """
    (width, height), rows = geometries[0].tensor, len(pictures) + 1
    staged = stage(pictures, geometries, (width, height), rows)
    staging, size = kernel.upload(staged, lane), rows * 3 * height * width
    tensor, pinned = kernel.room(size), driver.pin(size)

    def launch(_: int) -> None:
        kernel.launch(staging, tensor, (width, height), rows, lane.stream)

    found = []
    with ExitStack() as taken:
        taken.callback(driver.unpin, pinned)
        for start in filter(None, (launch, _as_graph(driver, lane, launch, taken))):
            pinned.view.fill(77)
            lane.seconds(lambda _: driver.copy_in(tensor, pinned.view, lane.stream), 1)
            lane.seconds(start, 1)
            lane.seconds(lambda _: driver.copy_out(pinned.view, tensor, lane.stream), 1)
            found.append(pinned.view.reshape(rows, 3, height, width).astype(np.int16))
    return found


def _as_graph(
    driver: Driver, lane: Lane, start: Callable[[int], None], taken: ExitStack
) -> Callable[[int], None] | None:
    """What `start` puts into the lane's stream, as a graph; None where the binding has none."""
    if not driver.graphs:
        return None
    driver.begin_capture(lane.stream)
    start(0)
    graph = driver.end_capture(lane.stream)
    taken.callback(driver.destroy_graph, graph)
    return lambda _: driver.launch_graph(graph, lane.stream)


def _by_cpu(pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> NDArray[np.int16]:
    width, height = geometries[0].tensor
    tensors = np.empty((len(pictures), 3, height, width), np.uint8)
    for picture, geometry, row in zip(pictures, geometries, tensors, strict=True):
        TensorWriter().write(picture, geometry, row)
    return tensors.astype(np.int16)


def speeds(driver: Driver, seconds: float, most: int, kinds: Sequence[str]) -> dict[str, dict[str, float]]:
    """By kind of picture: microseconds a batch of 8, and GB/s read and written together."""
    found = {}
    for name in kinds:
        pixel_format, size, into = TIMED[name]
        with ExitStack() as taken:
            kernel = Kernel(driver, taken)
            lane = Lane(driver)
            taken.callback(lane.close)
            pictures = [Picture(image(pixel_format, size, seed)) for seed in range(BATCH)]
            staged = stage(pictures, [fit(size, None, into)] * BATCH, (into.width, into.height), BATCH)
            written = BATCH * 3 * into.width * into.height
            # More blocks than any cache holds, so that the kernel reads memory as it does behind an upload.
            blocks = max(2, min(most, driver.free_memory() // 8) // (staged.size + written))
            places = [(kernel.upload(staged, lane), kernel.room(written)) for _ in range(blocks)]

            def start(_: int) -> None:
                for staging, tensor in places:  # noqa: B023  # called before the next round
                    kernel.launch(staging, tensor, (into.width, into.height), BATCH, lane.stream)  # noqa: B023

            # All of them at once, and not launched from here: a kernel may take less time than a launch or a wait.
            each = lane.each(_as_graph(driver, lane, start, taken) or start, seconds) / blocks
        found[name] = {"us": each * 1e6, "gb_s": (staged.size + written) / each / 1e9}
    return found
