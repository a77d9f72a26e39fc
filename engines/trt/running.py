"""A plan that runs: two batches in flight on one GPU.

While the network works on one batch, the next one is written into pinned memory and uploaded, and the outputs of the
one before come back: three streams, ordered by events, and one wait for each batch. Batches of 1, 2, 4, ... are run;
others are filled up to the next of these with rows that nobody reads. Each (slot, size) has an execution context whose
shape and addresses never change, and its CUDA graph. All of them work in one block of device memory, since they work
one after the other (docs/adr/0033).
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.card import Card
from engines.cuda.driver import Driver, Handle
from engines.cuda.errors import OutOfDeviceMemory
from engines.errors import BackendError
from engines.pixels import Geometry, Image, Picture, check_batch, fit
from engines.trt.contexts import Network
from engines.trt.filling import Prepare, filling
from engines.trt.passport import Plan
from engines.trt.slots import Slot, Streams, capture, open_runs, open_slot

log = logging.getLogger(__name__)


class TensorRTEngine(Engine):
    """A plan on a GPU. Its thread may change between calls; it is never in two at once.

    Each call makes the device current: the same thread may have called an engine on another one meanwhile.
    """

    depth = 2

    def __init__(self, trt: Any, driver: Driver, plan: Plan, card: Card, *, prepare: Prepare = "gpu") -> None:
        """`driver` is the engine's from here on: closed with it, and where this fails.

        Raises BackendError naming the plan, OutOfDeviceMemory where not even its smallest batch has room, EngineLost.
        """
        self._driver, self._plan = driver, plan
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        self._in_use: list[Handle] = []
        """Streams that may have something to do."""
        self._taken = ExitStack()
        self._taken.callback(driver.close)
        try:
            self._driver.make_current()
            self._settled = self._event()
            self._streams = Streams(self._stream(), self._stream(), self._stream())
            self._network = Network(trt, plan.path, plan.data, host_code=plan.passport.version_compatible)
            self._taken.callback(self._network.close)
            self._check_fits(card)
            self._filling = filling(driver, plan, self._size, prepare, self._taken)
            graphs = self._open(card)
        except BaseException:
            self.close()
            raise
        self.inputs = (self._network.input,)
        self.outputs = tuple(_given(spec) for spec in self._network.outputs)
        self.description = {
            "backend": f"{plan.passport.flavour} {trt.__version__}",
            "device": driver.facts.name,
            "precision": plan.passport.precision,
            "float_precision": plan.made.floats,
            "batch": self.max_batch,
            "prepare": self._filling.said,
            "graphs": graphs,
        }
        if plan.made.instead_of:
            wanted, _, because = plan.made.instead_of.partition(": ")
            self.description |= {"instead_of": wanted, "because": because}

    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        """See Engine."""
        check_batch(pictures, geometries, self.max_batch, self._size)
        if not self._free:
            raise BackendError(f"all {self.depth} slots are in flight: read and release a ticket first")
        slot = self._free[-1]
        self._driver.make_current()
        if slot.busy:  # its ticket was released unread
            self._settle()
        self._filling.write(slot, pictures, geometries)
        self._free.pop()
        return Batch(slot.number, len(pictures))

    def submit(self, batch: Batch) -> Ticket:
        """See Engine."""
        slot = self._slots[batch.slot]
        slot.busy = True
        try:
            self._driver.make_current()
            self._start(slot, batch.count)
        except BaseException:
            self._free.append(slot)
            raise
        return _Ticket(self, slot, batch.count)

    def close(self) -> None:
        """See Engine. Raises nothing for a device that is gone."""
        taken, self._taken = self._taken, ExitStack()
        streams, self._in_use = self._in_use, []
        self._free.clear()
        try:
            with taken:
                if streams:
                    self._driver.make_current()
                    self._settle(streams)
        except BackendError as error:
            log.warning("%s: closed without waiting for what was under way: %s", self._plan.path, error)

    def _check_fits(self, card: Card) -> None:
        found, wanted = self._network.input.shape[1:], (3, card.input.height, card.input.width)
        if found != wanted:
            raise BackendError(f"{self._plan.path}: takes pictures of shape {found}, and its card's are {wanted}")
        self._size = (card.input.width, card.input.height)

    def _open(self, card: Card) -> str:
        """Take memory and contexts for as large a batch as there is room for; return what is to be said of graphs."""
        sizes = self._network.sizes
        most = sizes.most
        while True:
            with ExitStack() as taken:
                try:
                    self._open_slots(most, taken)
                    graphs = self._warm_up(taken)
                    self._rehearse(card)
                except OutOfDeviceMemory as error:
                    if most == sizes.least:
                        raise
                    log.warning("%s: no room for batches of %d, trying smaller ones: %s", self._plan.path, most, error)
                    self._settle()
                    most = max(sizes.least, most // 2)
                else:
                    self._taken.push(taken.pop_all())
                    return graphs

    def _open_slots(self, most: int, taken: ExitStack) -> None:
        driver, network = self._driver, self._network
        self.max_batch = most
        self._sizes = network.sizes.up_to(most)
        self._slots[:] = [
            open_slot(number, driver, network, most, taken, on_device=self._filling.on_device)
            for number in range(self.depth)
        ]
        open_runs(self._slots, driver, network, self._sizes, driver.stream_address(self._streams.compute), taken)
        self._free[:] = self._slots

    def _warm_up(self, taken: ExitStack) -> str:
        """The first run of a context allocates and compiles: nobody's frame waits for that. Then it is made a graph."""
        driver, compute = self._driver, self._streams.compute
        address, refused = driver.stream_address(compute), None
        for slot in self._slots:
            zeros = slot.staging.view[: slot.input_size]
            zeros.fill(0)
            driver.copy_in(slot.input, zeros, compute)
            for run in slot.runs.values():
                self._network.execute(run.context, address)
                self._settle()
                refused = refused or capture(run, driver, self._network, compute, taken)
        if refused is None:
            return "yes"
        for slot in self._slots:
            for run in slot.runs.values():
                run.graph = None
        log.warning("%s: runs without CUDA graphs, a little slower: %s", self._plan.path, refused)
        return f"no: {refused}"

    def _rehearse(self, card: Card) -> None:
        """All slots at once, all the way: what is loaded when it is first used is loaded now, what fails fails now."""
        width, height = self._size
        grey = np.full((height, width), 128, np.uint8)
        picture = Picture(Image((grey,), "gray", "601", "full", self._size))
        geometry = fit(self._size, None, card.input)
        batches = [self.prepare([picture] * self.max_batch, [geometry] * self.max_batch) for _ in self._slots]
        for ticket in [self.submit(batch) for batch in batches]:
            ticket.result()
            ticket.release()

    def _start(self, slot: Slot, count: int) -> None:
        driver, streams = self._driver, self._streams
        self._filling.start(slot, count, streams)
        run = slot.runs[self._padded(count)]
        if run.graph is None:
            self._network.execute(run.context, driver.stream_address(streams.compute))
        else:
            driver.launch_graph(run.graph, streams.compute)
        driver.record(slot.computed, streams.compute)
        driver.wait(streams.download, slot.computed)
        for output in slot.outputs:
            driver.copy_out(output.pinned[: output.row * count], output.address, streams.download)
        driver.record(slot.finished, streams.download)

    def _padded(self, count: int) -> int:
        """The size of batch that is run for so many pictures."""
        return self._sizes[bisect_left(self._sizes, count)]

    def _settle(self, streams: Sequence[Handle] | None = None) -> None:
        """Wait for all that was started: at the start, at the end, and after what nobody waited for."""
        for stream in self._in_use if streams is None else streams:
            self._driver.record(self._settled, stream)
            self._driver.synchronise(self._settled)
        for slot in self._slots:
            slot.busy = False

    def _event(self) -> Handle:
        made = self._driver.event()
        self._taken.callback(self._driver.destroy_event, made)
        return made

    def _stream(self) -> Handle:
        made = self._driver.stream()
        self._taken.callback(self._driver.destroy_stream, made)
        self._in_use.append(made)
        return made

    def _wait(self, slot: Slot) -> None:
        self._driver.make_current()
        self._driver.synchronise(slot.finished)
        slot.busy = False

    def _is_done(self, slot: Slot) -> bool:
        self._driver.make_current()
        return self._driver.done(slot.finished)


class _Ticket:
    def __init__(self, engine: TensorRTEngine, slot: Slot, count: int) -> None:
        self._engine, self._slot, self._count = engine, slot, count

    def done(self) -> bool:
        try:
            return self._engine._is_done(self._slot)
        except BackendError:  # `result` says it
            return True

    def result(self) -> Raw:
        self._engine._wait(self._slot)
        return {output.spec.name: _float32(output.array[: self._count]) for output in self._slot.outputs}

    def release(self) -> None:
        self._engine._free.append(self._slot)


def _given(spec: TensorSpec) -> TensorSpec:
    """An output as `Ticket.result` gives it."""
    return TensorSpec(spec.name, spec.shape, np.dtype(np.float32))


def _float32(array: Any) -> Any:
    """Itself, or a copy of what is float16: tasks compute in float32."""
    return array if array.dtype == np.float32 else array.astype(np.float32)
