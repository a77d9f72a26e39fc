"""The page: a proof or a comparison, its sections put together, each left out where there is nothing to say.

It loads nothing and runs nothing: its policy (CSP) forbids both, whatever names of layers, labels and files say.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.errors import MissingExtra
from calibration.proof import Layer, Point, Proof, Worst
from calibration.report import gauge, layers, trade_off
from calibration.report.compared import Compared
from calibration.report.side_by_side import Shown, SideBySide, show
from calibration.report.svg import Drawn, breakable
from calibration.report.verdict import Culprit, Scores, Verdict, by_sensitivity, culprits, verdict
from calibration.report.words import count, decibels, interval, macs, milliseconds, number, points, share

if TYPE_CHECKING:
    from jinja2 import Template

_WIDE, _NARROW = 940.0, 360.0
_PICTURES = 16
"""Pictures of the page at most."""
_PICTURE_BYTES = 3_000_000
"""That all pictures of the page take together; those that come after are named only."""
_SENSITIVE = 12
_CLASSES = 12


@dataclass(frozen=True)
class Drawing:
    """A chart for wide screens and for narrow ones: letters that shrink with a drawing cannot be read on a phone."""

    wide: Drawn
    narrow: Drawn


@dataclass(frozen=True)
class Time:
    """Milliseconds of one way to run the model."""

    name: str
    said: str
    percent: float
    """Of the slowest."""
    kind: str


@dataclass(frozen=True)
class Speeds:
    """How fast both are."""

    sentence: str
    times: Sequence[Time]
    device: str | None


@dataclass(frozen=True)
class Refusal:
    """Which layers, and why."""

    sentence: str
    culprits: Sequence[Culprit]


@dataclass(frozen=True)
class Candidates:
    """The trade-off."""

    drawing: Drawing
    legend: Sequence[trade_off.Legend]
    rows: Sequence[Mapping[str, str | bool]]


@dataclass(frozen=True)
class Layers:
    """The layers' chart and tables."""

    drawing: Drawn
    sensitive: Sequence[Mapping[str, str | bool]]
    kept: Sequence[Mapping[str, str | bool]]
    all: Sequence[Mapping[str, str | bool]]


@dataclass(frozen=True)
class Pictures:
    """The worst pictures."""

    shown: Sequence[tuple[Shown, Worst | None]]
    named: Sequence[Worst]
    """Those whose pixels are not here."""
    boxes: bool
    threshold: str


@dataclass(frozen=True)
class Page:
    """Everything the template puts on the page, worded; None or empty: no such section."""

    title: str
    subtitle: str
    names: tuple[str, str]
    verdict: Verdict
    scores: Scores
    gauge: Drawing | None
    refusal: Refusal | None
    speed: Speeds | None
    details: Sequence[Mapping[str, str]]
    candidates: Candidates | None
    layers: Layers | None
    classes: Sequence[Mapping[str, str]]
    pictures: Pictures | None
    data: Sequence[tuple[str, str]]
    provenance: Sequence[tuple[str, str]]
    source: str
    json: str


def page_of(made: Proof | Compared, pairs: Sequence[SideBySide]) -> Page:
    """Word a proof or a comparison, and draw it."""
    scores = Scores.of(made)
    said = verdict(scores)
    if isinstance(made, Proof):
        return Page(
            title=made.model, subtitle="INT8 against FP32", names=scores.names, verdict=said, scores=scores,
            gauge=_gauge(scores), refusal=_refusal(made), speed=_speed(made),
            details=_details(scores.details), candidates=_candidates(made), layers=_layers(made.layers),
            classes=_classes(scores.details), pictures=_pictures(pairs, made.worst, scores.names),
            data=_data(made), provenance=_provenance(made), source=made.data.source,
            json=made.model_dump_json(by_alias=True, indent=1),
        )  # fmt: skip
    return Page(
        title=f"{made.b.name} against {made.a.name}", subtitle="Comparison", names=scores.names, verdict=said,
        scores=scores, gauge=_gauge(scores), refusal=None, speed=_turns(made), details=_details(scores.details),
        candidates=None, layers=_layers(made.layers), classes=_classes(scores.details),
        pictures=_pictures(pairs, made.worst, scores.names),
        data=[("pictures from", made.source), ("pictures", str(made.set_.pictures)), ("their hash", made.set_.hash)],
        provenance=[
            *((f"{side.name}, ran on", side.engine) for side in (made.a, made.b)),
            *((f"{side.name}, sha256", side.sha256) for side in (made.a, made.b)),
            *made.versions.items(),
        ],
        source=made.source, json=made.model_dump_json(by_alias=True, indent=1),
    )  # fmt: skip


def render(page: Page) -> str:
    """HTML of the page. Raises MissingExtra without jinja2."""
    return _template().render(page=page) + "\n"


def require_jinja2() -> None:
    """Raise MissingExtra without it."""
    try:
        import jinja2  # noqa: F401  # is it there?
    except ImportError:
        raise MissingExtra("the report needs jinja2: pip install 'sightwire[calibrate]'") from None


@functools.cache
def _template() -> Template:
    require_jinja2()
    from jinja2 import Environment, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = breakable
    environment.globals["style"] = Drawn((here / "page.css").read_text(encoding="utf-8"))
    return environment.from_string((here / "page.html").read_text(encoding="utf-8"))


def _gauge(scores: Scores) -> Drawing | None:
    wide, narrow = gauge.draw(scores, _WIDE * 0.72), gauge.draw(scores, _NARROW)
    return Drawing(wide, narrow) if wide is not None and narrow is not None else None


def _refusal(proof: Proof) -> Refusal | None:
    """None inside the budget."""
    measured = proof.measured
    if measured.inside:
        return None
    kept = [layer for layer in proof.layers if layer.precision == "float"]
    said = (
        f"INT8 loses {points(measured.loss)} points, {points(measured.loss - measured.budget)} more than the budget of "
        f"{points(measured.budget)}. No model was installed."
    )
    if kept:
        part = share(sum(layer.macs for layer in kept), sum(layer.macs for layer in proof.layers))
        said += f" That is with {count(len(kept), 'layer')} in float already ({part} of the multiplications)."
    return Refusal(said, culprits(proof.layers))


def _speed(proof: Proof) -> Speeds | None:
    speed = proof.speed
    if speed is None:
        return None
    times = [("FP32", speed.fp32_ms, "float"), ("FP32, bf16 allowed", speed.bf16_ms, "float")]
    times += [("INT8", speed.int8_ms, "int8"), ("INT8, bf16 for the float parts", speed.int8_bf16_ms, "int8")]
    return Speeds(_ratio("INT8", "FP32", speed.ratio), _times(times), speed.device)


def _turns(compared: Compared) -> Speeds | None:
    a, b = compared.a, compared.b
    if a.ms is None or b.ms is None:
        return None
    return Speeds(
        _ratio(b.name, a.name, a.ms / b.ms), _times([(a.name, a.ms, "int8"), (b.name, b.ms, "int8")]), compared.device
    )


def _ratio(name: str, other: str, ratio: float) -> str:
    return f"{name} is {number(ratio)} times as fast as {other}"


def _times(times: Iterable[tuple[str, float | None, str]]) -> list[Time]:
    known = [(name, ms, kind) for name, ms, kind in times if ms is not None]
    slowest = max(ms for _, ms, _ in known)
    return [Time(name, milliseconds(ms), 100 * ms / slowest, kind) for name, ms, kind in known]


_WORST_CLASSES = "worst classes"
"""Figure of a measure that has a table of its own."""


def _details(details: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Further figures of a measure: of both models (`{a, b}`), or of the two together."""
    found: list[Mapping[str, str]] = []
    for name, value in details.items():
        if isinstance(value, Mapping) and _is_number(value.get("a")) and _is_number(value.get("b")):
            a, b = value["a"], value["b"]
            found.append({"name": name, "a": number(a), "b": number(b), "loss": number(a - b)})
        elif _is_number(value):
            found.append({"name": name, "both": str(value) if isinstance(value, int) else number(value)})
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _candidates(proof: Proof) -> Candidates | None:
    total, budget = sum(layer.macs for layer in proof.layers), proof.measured.budget
    wide, narrow = (trade_off.draw(proof.trade_off, total, budget, width) for width in (_WIDE, _NARROW))
    if wide is None or narrow is None:
        return None
    order = sorted(proof.trade_off, key=lambda point: (point.float_macs, -point.output_db))
    return Candidates(Drawing(wide, narrow), trade_off.legend(proof.trade_off), [_candidate(p, total) for p in order])


def _candidate(point: Point, total: int) -> dict[str, str | bool]:
    return {
        "method": point.method,
        "kept": str(len(point.kept_float)),
        "share": share(point.float_macs, total) if total > 0 else macs(point.float_macs),
        "db": decibels(point.output_db),
        "loss": "" if point.loss is None else points(point.loss),
        "interval": "" if point.interval is None else interval(point.interval),
        "chosen": point.chosen,
    }


def _layers(found: Sequence[Layer]) -> Layers | None:
    drawing = layers.draw(found)
    if drawing is None:
        return None
    total = sum(layer.macs for layer in found)
    places = {id(layer): index for index, layer in enumerate(found, 1)}

    def row(layer: Layer, rank: int = 0) -> dict[str, str | bool]:
        return {
            "rank": str(rank),
            "place": str(places[id(layer)]),
            "name": layer.name,
            "operator": f"{'depthwise ' if layer.depthwise else ''}{layer.operator}",
            "float": layer.precision == "float",
            "reason": layer.reason or ("no reason given" if layer.precision == "float" else ""),
            "noise": decibels(layer.signal_to_noise_db),
            "alone": decibels(layer.alone_db),
            "macs": macs(layer.macs),
            "share": share(layer.macs, total),
        }

    return Layers(
        drawing,
        [row(layer, rank) for rank, layer in enumerate(by_sensitivity(found)[:_SENSITIVE], 1)],
        [row(layer) for layer in found if layer.precision == "float"],
        [row(layer) for layer in found],
    )


def _classes(details: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Rows of what a measure calls `worst classes`: label, a, b, loss, and how many pictures or objects that is of."""
    return [
        {
            "label": row["label"],
            **{key: number(row[key]) for key in ("a", "b", "loss")},
            "of": next((count(row[f"{thing}s"], thing) for thing in ("picture", "object") if f"{thing}s" in row), ""),
        }
        for row in details.get(_WORST_CLASSES, [])[:_CLASSES]
    ]


def _pictures(pairs: Sequence[SideBySide], worst: Sequence[Worst], names: tuple[str, str]) -> Pictures | None:
    """In the order they are given, as many as the page has room for."""
    known = {one.picture: one for one in worst}
    shown: list[tuple[Shown, Worst | None]] = []
    taken = 0
    for pair in pairs[:_PICTURES]:
        drawn = show(pair, names, len(shown) + 1)
        taken += len(drawn.symbol)
        if taken > _PICTURE_BYTES:
            break
        shown.append((drawn, known.get(pair.name)))
    here = {drawn.name for drawn, _ in shown}
    named = [one for one in worst if one.picture not in here]
    if not shown and not named:
        return None
    boxes = any(view.drawn is not None for drawn, _ in shown for view in drawn.views)
    thresholds = sorted({pair.threshold for pair in pairs})
    return Pictures(shown, named, boxes, " or ".join(number(one) for one in thresholds))


def _data(proof: Proof) -> list[tuple[str, str]]:
    data = proof.data
    return [
        ("pictures from", data.source),
        ("pixel way", {"bgr": "BGR, as picture files are read", "i420": "I420, as video is decoded"}[data.way]),
        ("found", count(data.found, "picture")),
        ("near duplicates left out", str(data.duplicates)),
        ("calibrated with", count(data.calibration.pictures, "picture")),
        ("calibration set", data.calibration.hash),
        ("held out", count(data.held_out.pictures, "picture")),
        ("held-out set", data.held_out.hash),
        ("labels", "yes" if data.labelled else "none: FP32 is taken for right"),
    ]


def _provenance(proof: Proof) -> list[tuple[str, str]]:
    return [
        ("method", proof.method),
        ("FP32 file, sha256", proof.fp32_sha256),
        ("INT8 file, sha256", proof.int8_sha256),
        ("table, sha256", proof.table_sha256),
        *proof.versions.items(),
    ]
