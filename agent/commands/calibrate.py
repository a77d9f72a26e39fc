"""`sightwire calibrate`: an INT8 model with its proof, or a refusal that says why."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.commands import fail
from agent.commands._measuring import answered, bars

if TYPE_CHECKING:
    from calibration.evaluation import Stages
    from calibration.pictures import Sample
    from calibration.pipeline import Outcome

_PICTURES = 400
"""Of a video or a camera, where nobody asked for another number."""
_EVERY_S = 1.0
_BLAMED = 5
_REFUSED = 1


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model that is here, or path of its card.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures like those that the cameras will see.")
    ] = None,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="Or a video.")] = None,
    camera: Annotated[
        str | None, typer.Option(metavar="URL", help="Or a camera, as a configuration names it: a frame a second.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What is in the pictures: COCO json, CSV, or a folder with one per class."),
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many pictures.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, help="Points of 100 that INT8 may lose; else .5 top-1, 1.5 AP, see the docs."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the model; without it the model's own gets INT8.")
    ] = None,
    way: Annotated[
        Literal["bgr", "i420"],
        typer.Option("--as", help="Pixels that the model gets; i420 is what cameras and videos deliver."),
    ] = "i420",
    method: Annotated[
        str,
        typer.Option(help="How ranges are found: auto tries min-max, percentile 99.9 …, entropy, mean-squared-error."),
    ] = "auto",
    keep: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="An operation that stays in float; may be repeated.")
    ] = None,
    held_out: Annotated[
        float, typer.Option(metavar="SHARE", min=0.1, max=0.9, help="Of the pictures, to prove with.")
    ] = 0.5,
) -> None:
    """Make an INT8 model that is proved to be as good as FP32 on your own pictures.

    Half of the pictures calibrate, the other half prove. Outside the budget nothing is installed, the exit status is 1,
    and the report says which operations are to blame. A run that was interrupted goes on where it stopped.

    Example: sightwire calibrate person-ssdlite --images photos/ --labels photos/instances.json
    """
    with answered():
        from calibration.journal import alone
        from calibration.pipeline import Order, calibrate, check_target, install
        from calibration.search.methods import checked
        from engines.store import ModelStore, default_root

        card, folder = ModelStore(default_root()).find(model)
        method = checked(method)
        work = _work(card.name)
        target = folder if out is None else out.resolve()
        check_target(target, card.name)
        with alone(work):
            with bars() as stages:
                found, source = _samples(images, video, camera, samples, way, work, stages)
                order = Order(
                    card, folder, found, source,
                    way=way, labels=labels, most=samples, budget=budget, method=method, keep=tuple(keep or ()),
                    held_out=held_out,
                )  # fmt: skip
                outcome = calibrate(order, work, stages)
            _print(outcome)
            if not outcome.proof.measured.inside:
                fail(_refusal(outcome, work), _REFUSED)
            card_path = install(outcome, target)
            shutil.rmtree(work, ignore_errors=True)
        typer.echo(f"installed {card_path}; the proof: {target / 'report.html'}")


def _work(name: str) -> Path:
    """Folder for what interrupted runs of this model leave."""
    cache = os.environ.get("CACHE_DIRECTORY") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sightwire" / "calibration" / name


def _samples(
    images: Path | None,
    video: Path | None,
    camera: str | None,
    most: int | None,
    way: Literal["bgr", "i420"],
    work: Path,
    stages: Stages,
) -> tuple[list[Sample], str]:
    """Return the pictures, and where they came from, without credentials. Raises CalibrationError, SourceError."""
    from agent.commands._pictures import camera_frames, camera_source, video_frames
    from calibration.errors import CalibrationError
    from calibration.journal import key_of
    from calibration.pictures import from_folder, from_frames

    if sum(given is not None for given in (images, video, camera)) != 1:
        raise CalibrationError("give pictures, one of: --images DIR, --video FILE, --camera URL")
    if images is not None:
        return from_folder(images, way, stages("reading pictures")), str(images)
    # Frames repeat themselves: twice as many are taken as are wanted, and near duplicates left out.
    limit = 2 * (most or _PICTURES)
    if video is not None:
        try:
            stat = video.stat()
        except OSError as error:
            raise CalibrationError(f"{video}: cannot be opened: {error.strerror}") from None
        into = work / f"frames-{key_of(str(video.resolve()), stat.st_size, stat.st_mtime_ns, limit)[:16]}"
        with video_frames(video, limit) as frames:
            return from_frames(frames, into, way, limit, stages("reading frames")), str(video)
    source = camera_source(str(camera))
    into = work / f"frames-{key_of(str(camera), limit)[:16]}"
    with camera_frames(source, _EVERY_S) as frames:
        return from_frames(frames, into, way, limit, stages("watching the camera")), source.label


def _print(outcome: Outcome) -> None:
    from rich.console import Console

    from calibration.report.verdict import Scores, verdict

    console = Console(highlight=False, markup=False)
    proof = outcome.proof
    said = verdict(Scores.of(proof))
    for line in (said.headline, said.sentence, said.certainty):
        if line:
            console.print(line, soft_wrap=True)
    data = proof.data
    console.print(
        f"{data.found} pictures, {data.duplicates} of them show what another one does; {data.calibration.pictures} "
        f"calibrated, {data.held_out.pictures} proved",
        soft_wrap=True,
    )
    total = sum(layer.macs for layer in proof.layers)
    kept = [layer for layer in proof.layers if layer.precision == "float"]
    share = sum(layer.macs for layer in kept) / max(total, 1)
    console.print(f"{proof.method}; {len(kept)} of {len(proof.layers)} operations in float, {share:.1%} of the work")
    if proof.speed is not None:
        speed = proof.speed
        console.print(
            f"{speed.fp32_ms:.2f} ms FP32, {speed.int8_ms:.2f} ms INT8 a picture, {speed.ratio:.2f} times as fast: one "
            f"thread, {speed.device}",
            soft_wrap=True,
        )


def _refusal(outcome: Outcome, work: Path) -> str:
    """Say in a line what is to blame, and where the report is."""
    from calibration.pipeline import REPORT
    from calibration.report import write_report
    from calibration.report.verdict import culprits

    page = work / REPORT
    write_report(outcome.proof, outcome.worst, page)
    blamed = "; ".join(f"{culprit.layer.name} ({culprit.why})" for culprit in culprits(outcome.proof.layers, _BLAMED))
    return (
        f"{outcome.proof.model}: no INT8 form of it keeps the budget of {outcome.proof.measured.budget:g} points; "
        f"it is hurt most by {blamed or 'no operation in particular'}. Nothing was installed; the report: {page}"
    )
