"""What the C library keeps of memory that was freed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT

if not sys.platform.startswith("linux") or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"):  # type: ignore[operator]
    pytest.skip("another C library", allow_module_level=True)

ARENAS = """
import ctypes, sys, threading, types

class Busy:
    '''In the place of the agent: eight threads that have memory of their own at the same time.'''

    def __init__(self, *_): ...

    def run(self):
        import numpy  # begins threads
        all_here = threading.Barrier(8)

        def keep():
            libc.free(libc.malloc(100_000))
            all_here.wait()

        threads = [threading.Thread(target=keep) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        file = libc.fopen(sys.argv[1].encode(), b"w")
        libc.malloc_info(0, file)
        libc.fclose(file)

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]

from agent.commands.run import run

sys.modules["agent.running"] = types.SimpleNamespace(Running=Busy)
run(None)
"""
HOLES = """
import ctypes
from pathlib import Path
from agent.allocator import give_back

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
kept = [libc.malloc(60_000) for _ in range(1000)]
for block in kept:
    ctypes.memset(block, 1, 60_000)
for index, block in enumerate(kept):
    if index % 10:
        libc.free(block)
before = resident_mb()
give_back()
print(before - resident_mb())
"""


def _child(program: str, *arguments: str | Path, **env: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    environment |= {"PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


def _arenas(folder: Path, **env: str) -> int:
    _child(ARENAS, folder / "arenas.xml", **env)
    return (folder / "arenas.xml").read_text().count("<heap nr=")


def test_the_threads_of_an_agent_share_two_arenas(tmp_path: Path) -> None:
    assert _arenas(tmp_path) <= 2


def test_the_environment_may_say_how_many_arenas_there_are(tmp_path: Path) -> None:
    assert _arenas(tmp_path, MALLOC_ARENA_MAX="5") == 5


def test_memory_between_what_is_in_use_is_given_back() -> None:
    assert float(_child(HOLES)) > 40
