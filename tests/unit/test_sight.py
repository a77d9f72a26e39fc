"""Whether a camera still sees: what is told, how soon, and where nothing may be told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.frame import Timestamp
from agent.sight.fading import Fading, Look
from agent.sight.frozen import LEAST_S, Stillness
from agent.sight.settings import BlindSection
from agent.sight.sight import LOOK_NS, Sight
from engines.pixels import Image
from tests.support import views
from tests.support.views import Place, Shot, Told, between, judged, judged_by, only

LEARNED_S, WRONG_S, RIGHT_S = 110.0, 12.0, 6.0
SIZE = (320, 180)
BEGIN, END = LEARNED_S + 2, LEARNED_S + 2 + WRONG_S
PEOPLE = views.walkers(5, SIZE)
USUAL = Shot(Place(5, SIZE), LEARNED_S, changes=[PEOPLE])
AFTER = USUAL.but(begins=LEARNED_S, seconds=2 + WRONG_S + RIGHT_S)
"""What comes after what was learned."""


@cache
def _learned(size: tuple[int, int] = SIZE) -> Sight:
    sight = Sight(BlindSection())
    assert judged_by(sight, USUAL.but(place=Place(5, size), changes=[views.walkers(5, size)])) == []
    return sight


def told(shot: Shot, sight: Sight | None = None) -> Told:
    """What a camera tells that has watched the usual scene before."""
    return judged_by(copy.deepcopy(sight or _learned()), shot)


def then(change: views.Change) -> Shot:
    return AFTER.but(changes=[PEOPLE, only(change, BEGIN, END)])


WRONG = {
    "frozen": AFTER.but(frozen=between(BEGIN, END)),
    "frozen, with a clock in the picture": AFTER.but(frozen=between(BEGIN, END), after=[views.clock]),
    "black": then(views.level(3)),
    "white": then(views.level(253)),
    "defocused": then(views.out_of_focus(4)),
    "covered": then(views.covered(5)),
    "covered by what lets a tenth through": then(views.covered(5, 0.9)),
    "moved": AFTER.but(turned=lambda t: 0.3 * min(1.0, t - BEGIN) if BEGIN <= t < END else 0.0),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_blind_camera_is_told_within_ten_seconds_and_so_is_that_it_sees_again(what: str) -> None:
    (first_s, begun), (last_s, ended) = told(WRONG[what])
    assert (begun.reason, begun.ended) == (what.partition(",")[0].partition(" by ")[0], None)
    assert BEGIN < first_s <= BEGIN + 10
    assert begun.since_ns / 1e9 == pytest.approx(BEGIN, abs=1.1)
    assert (ended.reason, ended.since_ns, ended.ended) == (begun.reason, begun.since_ns, "over")
    assert END <= last_s <= END + 5


DARK = LEARNED_S + 40


def grain(luma: views.Luma, t: float) -> views.Luma:
    """Noise, which an encoder passes over when it is dark."""
    rng = np.random.default_rng(round(t * views.RATE))
    return luma + rng.normal(0, 3, luma.shape).astype(np.float32) if t < DARK else luma


HARMLESS = {
    "people": AFTER,
    "noise alone": AFTER.but(changes=[]),
    "infrared": AFTER.but(grey=between(BEGIN, END), infrared=True),
    "a lamp": then(views.lamp([0], 5, 150)),
    "dusk": AFTER.but(seconds=60, light=lambda t: 200 * 0.5 ** ((t - LEARNED_S) / 60), noise=4),
    "dusk in which the noise goes, too": AFTER.but(
        seconds=65, light=lambda t: 200 * 0.5 ** ((min(t, DARK) - LEARNED_S) / 60), noise=0, changes=[grain]
    ),
    "rain": then(views.rain(5)),
    "a lorry": then(views.passing(BEGIN, 5, 5)),
    "somebody near the lens": then(views.passing(BEGIN, WRONG_S, 5, 0.7)),
    "a picture repeated for three seconds": AFTER.but(stuck=between(BEGIN, BEGIN + 3)),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_light_weather_and_passers_by_do_not_make_a_camera_blind(what: str) -> None:
    assert told(HARMLESS[what]) == []


@pytest.mark.parametrize("reason", ["frozen", "black", "moved"])
def test_what_is_switched_off_is_not_told(reason: str) -> None:
    sight = copy.deepcopy(_learned())
    sight._settings = BlindSection.model_validate({reason: "off"})
    assert told(WRONG[reason], sight) == []


def test_through_a_real_encoder_and_decoder_it_is_the_same() -> None:
    coded = USUAL.but(encoder={"crf": 28, "gop": 8}, seconds=LEARNED_S + 16)
    (first_s, begun), (_, ended) = judged(coded.but(stuck=between(BEGIN, LEARNED_S + 14)))
    assert (begun.reason, ended.ended) == ("frozen", "over")
    assert first_s <= BEGIN + 10


def test_a_frozen_sensor_is_told_behind_an_encoder_that_passes_nearly_all_noise_over() -> None:
    """Its key frames are drawn anew, and its other pictures refined, for a while after the sensor has stopped."""
    coded = Shot(Place(5, SIZE), LEARNED_S + 12, noise=2, encoder={"crf": 33, "gop": 8})
    ((first_s, begun),) = judged(coded.but(frozen=between(LEARNED_S, LEARNED_S + 99)))
    assert begun.reason == "frozen"
    assert first_s <= LEARNED_S + 10


class Picture:
    """A camera behind an encoder, as `Fading` sees it: a key frame each two seconds, and little between."""

    def __init__(self) -> None:
        self.fading, self._looks = Fading(), 0

    def goes_on(self, seconds: float, life: Callable[[float], float], moving: bool = False) -> list[float]:
        """Life: what is left of its usual one after so many seconds. Returns when it was told."""
        told = []
        for n in range(round(seconds * 2)):
            key = self._looks % 4 == 0
            cells = np.full((7, 13), 100.0, np.float32)
            if moving:
                cells[3:6, self._looks % 13] = 30
            left = life(n / 2)
            look = Look(self._looks * LOOK_NS, left * (2.0 if key else 0.1), left**3 * (0.8 if key else 0.1), cells)
            self.fading.take(look, 0.5)
            self._looks += 1
            told += [n / 2] * self.fading.told
        return told


def test_a_picture_that_fades_is_told_as_long_as_it_does_not_come_back() -> None:
    picture = Picture()
    assert picture.goes_on(120, lambda _: 1.0) == []
    told = picture.goes_on(60, lambda t: 0.8 ** (t / 2))
    assert told[0] <= 10
    assert told[-1] == 59.5
    assert picture.goes_on(60, lambda _: 1.0) == []


@pytest.mark.parametrize(("left", "most_s"), [(0.66, 10), (0.5, 30), (0.3, 30)])
def test_a_picture_that_only_becomes_calmer_is_told_for_a_moment_and_not_again(left: float, most_s: float) -> None:
    """Noise reduction steps in: unlike a sensor that stands still, what is left stays."""
    picture = Picture()
    assert picture.goes_on(120, lambda _: 1.0) == []
    told = picture.goes_on(300, lambda _: left)
    assert told[-1] - told[0] <= most_s
    assert len(told) <= 2 * most_s + 1


def test_while_somebody_moves_no_picture_is_faded() -> None:
    """An encoder that has them to draw saves on the rest."""
    picture = Picture()
    assert picture.goes_on(120, lambda _: 1.0) == []
    assert picture.goes_on(60, lambda _: 0.4, moving=True) == []


def test_a_scene_without_any_noise_is_not_frozen_however_long_nothing_happens() -> None:
    """By day and from the start: nothing was learned that would say it must move."""
    assert judged(Shot(Place(3, SIZE), 150, noise=0)) == []


def test_a_picture_without_any_change_is_frozen_where_the_configuration_says_after_how_long() -> None:
    ((at_s, begun),) = judged(Shot(Place(3, SIZE), 8, noise=0), BlindSection(frozen=4.0))
    assert begun.reason == "frozen"
    assert at_s == pytest.approx(4.0, abs=1)


def test_a_camera_that_is_black_from_the_start_is_told() -> None:
    ((_, begun),) = judged(Shot(Place(3, SIZE), 8, changes=[views.level(0)]))
    assert begun.reason == "black"


def test_only_what_is_not_masked_counts() -> None:
    """The rest is bright, and has edges: nobody may look there."""
    corner = [[(0, 0), (1, 0), (1, 0.5), (0.5, 0.5), (0.5, 1), (0, 1)]]

    def dark(luma: views.Luma, _t: float) -> views.Luma:
        luma = luma.copy()
        luma[90:, 160:] = 0
        return luma

    shot = Shot(Place(3, SIZE), 8, changes=[dark])
    assert judged(shot) == []
    assert [change.reason for _, change in judged_by(Sight(BlindSection(), masks=corner), shot)] == ["black"]
    cropped = Sight(BlindSection(), crop=(0.5, 0.5, 1, 1))
    assert [change.reason for _, change in judged_by(cropped, shot)] == ["black"]
    bright = Shot(Place(3, SIZE), 8, changes=[lambda luma, t: np.where(dark(luma, t) == 0, luma, 0)])
    assert judged_by(Sight(BlindSection(), masks=corner), bright) == []


def test_all_masked_says_nothing() -> None:
    everything = [[(0, 0), (1, 0), (1, 1), (0, 1)]]
    assert judged_by(Sight(BlindSection(), masks=everything), Shot(Place(3), 8, changes=[views.level(0)])) == []


def test_what_a_moved_camera_shows_for_long_enough_is_what_it_shall_show() -> None:
    sight = copy.deepcopy(_learned())
    sight._settings = BlindSection(accept=20)
    away = AFTER.but(seconds=40, turned=lambda _: 0.3)
    (_, begun), (accepted_s, ended) = told(away, sight)
    assert (begun.reason, ended.ended) == ("moved", "accepted")
    assert accepted_s - begun.since_ns / 1e9 == pytest.approx(20, abs=1)


def test_a_moved_camera_is_found_again_after_a_lost_connection_but_not_after_hours() -> None:
    for away_s, expected in ((60, ["moved"]), (7200, [])):
        sight = copy.deepcopy(_learned())
        sight.away()
        back = AFTER.but(begins=LEARNED_S + away_s, seconds=10, turned=lambda _: 0.3)
        assert [change.reason for _, change in told(back, sight)] == expected


def test_begun_anew_a_camera_knows_nothing_of_what_it_showed() -> None:
    sight = copy.deepcopy(_learned())
    sight.begin_anew()
    assert told(AFTER.but(turned=lambda _: 0.3), sight) == []


@pytest.mark.parametrize("pixels", ["gray", "bgr", "nv12"])
def test_every_kind_of_picture_can_be_judged(pixels: str) -> None:
    sight, told = Sight(BlindSection()), []
    for n in range(40):
        planes = {
            "gray": (np.zeros((90, 160), np.uint8),),
            "bgr": (np.zeros((90, 160, 3), np.uint8),),
            "nv12": (np.zeros((90, 160), np.uint8), np.full((45, 80, 2), 128, np.uint8)),
        }[pixels]
        at_ns = n * 250_000_000
        told += sight.look(Image(planes, pixels, "601", "full", (160, 90)), Timestamp(at_ns, at_ns, "file", None))
    assert [change.reason for change in told] == ["black"]


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["i420", "gray", "bgr"]))
@settings(max_examples=40)
def test_pictures_of_any_size_are_judged_or_passed_over(width: int, height: int, pixels: str) -> None:
    half = np.zeros((-(-height // 2), -(-width // 2)), np.uint8)
    planes = {
        "i420": (np.zeros((height, width), np.uint8), half, half),
        "gray": (np.zeros((height, width), np.uint8),),
        "bgr": (np.zeros((height, width, 3), np.uint8),),
    }[pixels]
    sight = Sight(BlindSection())
    for at_ns in (0, 10**9):
        sight.look(Image(planes, pixels, "601", "full", (width, height)), Timestamp(at_ns, at_ns, "file", None))


def test_a_picture_that_changes_its_size_is_learned_anew() -> None:
    assert told(AFTER.but(place=Place(9, (400, 300)))) == []


@given(st.lists(st.floats(0.5, 60), min_size=1, max_size=30), st.floats(0.5, 20))
def test_no_stillness_is_told_that_is_not_clearly_longer_than_the_longest_known(
    runs: list[float], busy_s: float
) -> None:
    stillness, longest_s = Stillness(), 0.0
    for run_s in runs:
        for _ in range(round(busy_s / 0.25)):
            stillness.take(False, 0.5, 0.25)
        for n in range(round(run_s / 0.25)):
            stillness.take(True, 0.0, 0.25)
            if stillness.told:
                assert (n + 1) * 0.25 >= max(LEAST_S, 2 * longest_s)
                return
        longest_s = max(longest_s, round(run_s / 0.25) * 0.25)


def test_a_stillness_that_was_told_and_ends_without_full_life_was_natural() -> None:
    """So a camera that is wrong about its scene once is not wrong each night."""
    for after, learns in ((0.05, True), (0.9, False)):
        stillness = Stillness()
        for _ in range(2000):
            stillness.take(False, 0.9, 0.25)
        for _ in range(240):
            stillness.take(True, 0.0, 0.25)
        assert stillness.told
        for _ in range(40):
            stillness.take(False, after, 0.25)
        assert (stillness.patience_s > 60) == learns


def test_a_camera_that_is_to_be_turned_is_learned_again_and_again() -> None:
    """`moved: off`: what it shows after a turn is known a while later, and can be covered."""
    sight = copy.deepcopy(_learned())
    sight._settings = BlindSection(moved=False)
    turned = AFTER.but(seconds=150, turned=lambda _: 0.3, changes=[only(views.covered(5), LEARNED_S + 140, 1e9)])
    assert [change.reason for _, change in told(turned, sight)] == ["covered"]


def test_a_camera_with_a_picture_in_fifteen_minutes_is_black_and_sees_again() -> None:
    sight, told = Sight(BlindSection()), []
    for n, level in enumerate([90, 0, 0, 0, 90, 90]):
        at_ns = n * 900 * 10**9
        picture = np.full((90, 160), level, np.uint8)
        told += sight.look(Image((picture,), "gray", "601", "full", (160, 90)), Timestamp(at_ns, at_ns, "file", None))
    assert [(change.reason, change.ended) for change in told] == [("black", None), ("black", "over")]
