"""The same plan, enqueued again and again and nothing else: no pictures, no copies, nobody reads."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from engines.cuda.driver import Driver
from engines.trt.contexts import Network
from engines.trt.passport import Plan
from engines.trt.slots import capture, open_runs, open_slot
from tests.prove.gpu_check.timing import Lane


class BareLoop:
    """One execution context for one size of batch; as a graph wherever it can be one."""

    def __init__(self, trt: Any, driver: Driver, plan: Plan, batch: int) -> None:
        self._driver, self._taken = driver, ExitStack()
        try:
            self._lane = Lane(driver)
            self._taken.callback(self._lane.close)
            network = Network(trt, plan.path, plan.data, host_code=plan.passport.version_compatible)
            self._taken.callback(network.close)
            slot = open_slot(0, driver, network, batch, self._taken, on_device=False)
            stream = driver.stream_address(self._lane.stream)
            open_runs([slot], driver, network, [batch], stream, self._taken)
            self._run, self._network, self._stream = slot.runs[batch], network, stream
            self._lane.seconds(lambda _: network.execute(self._run.context, stream), 1)
            capture(self._run, driver, network, self._lane.stream, self._taken)
            self.batch = batch
        except BaseException:
            self._taken.close()
            raise

    def rate(self, seconds: float) -> float:
        """Pictures a second."""
        return self.batch / self._lane.each(self._start, seconds)

    def _start(self, _: int) -> None:
        if self._run.graph is None:
            self._network.execute(self._run.context, self._stream)
        else:
            self._driver.launch_graph(self._run.graph, self._lane.stream)

    def close(self) -> None:
        """Free it."""
        del self._run  # which keeps the context alive
        self._taken.close()
