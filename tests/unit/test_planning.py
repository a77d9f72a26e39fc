"""How the plan looks for the number of cameras that fit, and what it says."""

from __future__ import annotations

import pytest

from agent.bench import CameraRate, EndToEnd, Latency, UseRate
from agent.planning import Plan, Row, _crowd, _limit, _published_to, _row, _search, _sentence
from agent.replayed import Recorded
from tests.support.agents import fake_model, settings_of

SITE = {
    "models": {"colours": fake_model("classes"), "things": fake_model("boxes")},
    "cameras": {
        "dock": {"source": {"type": "synthetic"}, "models": ["things", {"use": "colours", "on": "things"}]},
        "gate": {"source": {"type": "synthetic"}, "models": ["things"], "crop": [0, 0, 0.5, 1]},
        "yard": {"source": {"type": "synthetic", "rate": 5}, "models": ["things"]},
    },
}


def row(cameras: int, *, fits: bool = True, cores: float = 1.0, decode: float = 0.1, **more) -> Row:
    short = () if fits else more.pop("short", ("results",))
    values = {
        "cameras": cameras, "frames": 15.0, "results": 15.0, "met": 1.0, "age_p50_ms": 38.0,
        "age_p95_ms": 61.0, "cpu_cores": cores, "capture_cores": decode, "other_cores": 0.0, "rss_mb": 200.0,
        "fits": fits, "short_of": short,
    }  # fmt: skip
    return Row(**{**values, **more})


def plan_of(capacity: int, most: int = 64, cores_each: float = 0.3) -> tuple[Plan, list[int]]:
    found = Plan({"cores": 2}, {"dock": {"size": "1280x720", "rate": 15.0}}, 5.0, "a sink")
    tried: list[int] = []

    def run(cameras: int) -> Row:
        tried.append(cameras)
        found.rows.append(row(cameras, fits=cameras <= capacity, cores=min(2.0, cameras * cores_each)))
        return found.rows[-1]

    _search(run, found, most)
    return found, tried


@pytest.mark.parametrize("capacity", range(1, 12))
@pytest.mark.parametrize("cores_each", [0.05, 0.3, 1.5])
def test_the_largest_number_that_fits_is_found_in_few_runs(capacity, cores_each) -> None:
    found, tried = plan_of(capacity, cores_each=cores_each)
    assert capacity - max(1, capacity // 8) < found.fits <= capacity
    assert len(tried) == len(set(tried)) <= 9


def test_where_everything_fits_that_is_tried_no_limit_is_named() -> None:
    found, tried = plan_of(100, most=12)
    assert (found.fits, found.limit, max(tried)) == (12, None, 12)
    assert _sentence(found, 12).endswith("; more than 12 were not tried.")


def test_not_one_camera_is_an_answer() -> None:
    found, tried = plan_of(0)
    assert (found.fits, tried) == (0, [1])
    assert _sentence(found, 64).startswith("Not one camera of 1280x720 at 15 frames/s")


def test_the_sentence_says_what_how_many_how_fast_how_old_and_what_the_limit_is() -> None:
    found, _ = plan_of(6, cores_each=0.28)
    assert _sentence(found, 64) == (
        "6 cameras of 1280x720 at 15 frames/s, 15 results/s each, median age 38 ms (95 %: 61 ms); "
        "7 are too many: the limit is inference."
    )


@pytest.mark.parametrize(
    ("too_many", "limit"),
    [
        (row(3, fits=False, cores=1.9, decode=1.2), "decoding"),
        (row(3, fits=False, cores=1.9, decode=0.3), "inference"),
        (row(3, fits=False, cores=0.8, decode=0.5, other_cores=1.2), "other programs"),
        (row(3, fits=False, cores=1.2, decode=0.3, other_cores=0.8), "inference"),
        (row(3, fits=False, cores=0.4, decode=0.1), "inference on its device"),
        (row(3, fits=False, cores=0.4, decode=0.1, short=("age",)), "age"),
    ],
)
def test_the_limit_is_what_there_was_too_little_of(too_many, limit) -> None:
    assert _limit(too_many, 2) == limit


def test_stand_ins_take_the_cameras_in_turn_and_those_that_share_a_stream_share_its_stand_in() -> None:
    recorded = Recorded(None, (), 30.0, (640, 360), "made", "made")
    slow = Recorded(None, (), 5.0, (640, 360), "made", "made")
    crowd = _crowd(settings_of(**SITE), {"dock": recorded, "gate": recorded, "yard": slow}, 5, None)
    assert list(crowd.cameras) == ["dock-1", "gate-1", "yard-1", "dock-2", "gate-2"]
    assert crowd.connections() == [["dock-1", "gate-1"], ["yard-1"], ["dock-2", "gate-2"]]
    assert crowd.cameras["yard-1"].source.rate == 5.0
    assert crowd.cameras["gate-2"].crop == (0, 0, 0.5, 1)


def test_a_run_is_as_good_as_its_worst_camera_and_cascades_do_not_count() -> None:
    recorded = Recorded(None, (), 15.0, (640, 360), "made", "made")
    crowd = _crowd(settings_of(**SITE), dict.fromkeys(SITE["cameras"], recorded), 2, None)
    whole = EndToEnd(
        seconds=5, results=100, per_second=20, latency=Latency(20, 40, 50, 60), until="a sink", cpu_cores=1,
        cpu_cores_per_camera=0.5, rss_mb=100, accounts={}, capture_cores=0.2, other_cores=0,
        cameras={
            "dock-1": CameraRate(15.0, {"things": UseRate(15, 15), "colours": UseRate(15, 2)}),
            "gate-1": CameraRate(14.9, {"things": UseRate(14.9, 12)}),
        },
    )  # fmt: skip
    found = _row(whole, crowd, 1000)
    assert (found.frames, found.results, found.met) == (14.9, 12, 0.81)
    assert found.short_of == ("results",)
    assert not found.fits


def test_a_plan_publishes_in_the_words_of_the_configuration_but_where_nobody_hears_it() -> None:
    mqtt = {"url": "wss://broker:443", "username": "cam", "password": "secret", "headers": {"A": "b"}, "prefix": "site"}
    settings = settings_of(**SITE, mqtt={**mqtt, "dialect": "frigate"})
    assert settings.mqtt is not None
    there = _published_to("mqtt://127.0.0.1:5", settings, settings.mqtt).mqtt
    assert there is not None
    assert (there.url, there.prefix, there.dialect) == ("mqtt://127.0.0.1:5", "site", settings.mqtt.dialect)
    assert (there.username, there.read_password(), there.headers) == (None, None, {})
