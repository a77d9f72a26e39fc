"""Every CUDA binding does the same, on the stand-in driver (tests.support.standin_cuda), which is strict and no GPU."""

from __future__ import annotations

import numpy as np

from engines.cuda.binding import open_driver
from tests.support.standin_cuda import on_standin


@on_standin()
def test_what_is_copied_in_comes_out_again() -> None:
    driver = open_driver()
    print(driver.facts, driver.binding)
    s = driver.stream()
    e = driver.event()
    a = driver.allocate(1000)
    p = driver.pin(1000)
    q = driver.pin(1000)
    p.view[:] = np.arange(1000) % 251
    driver.copy_in(a, p.view, s)
    driver.copy_out(q.view, a, s)
    driver.record(e, s)
    driver.synchronise(e)
    assert driver.done(e)
    assert (q.view == p.view).all()
    driver.unpin(p)
    driver.unpin(q)
    driver.free(a)
    driver.destroy_event(e)
    driver.destroy_stream(s)
    driver.close()
