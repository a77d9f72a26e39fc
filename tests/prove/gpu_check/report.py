"""What was found, as Markdown: against the targets that were set, met or missed with the figure itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.prove.record import table

SHARE, KERNEL_SHARE, LEVELS = 0.95, 0.5, 1
"""End to end of the bare loop from batch 8 on; the kernel of copies on the device; levels from the CPU's tensors."""
FROM_BATCH = 8
Found = dict[str, Any]


def document(found: Found) -> str:
    """All of it."""
    return "\n".join(part.rstrip("\n") + "\n" for part in _parts(found))


def _parts(found: Found) -> Iterator[str]:
    device = found["device"]
    if device["standin"]:
        yield (
            "**STAND-IN: this ran on no GPU. Every figure below is worthless; it shows that gpu-check itself works.**"
        )
    major, minor = device["compute_capability"]
    yield (
        f"{device['name']}, compute capability {major}.{minor}, {device['memory'] / 2**30:.1f} GiB"
        f"{' shared with the CPU' if device['integrated'] else ''}, CUDA {device['driver']} by its driver, "
        f"{device['binding']}, {device['refused'] or device['tensorrt']}."
    )
    yield table(("target", "measured", ""), list(targets(found)))
    yield _memory(found["memory"])
    if found["models"]:
        yield models_table(found["models"])
    for name, model in found["models"].items():
        if "failed" in model:
            yield f"{name}: {model['failed']}"


def targets(found: Found) -> Iterator[tuple[str, str, str]]:
    """What was wanted, what was measured, `met` or `missed` or why neither can be said."""
    yield _kernel_numbers(found["memory"])
    speed = _kernel_speed(found["memory"])
    yield _not_judged(speed) if found["device"]["standin"] else speed
    yield "compute-sanitizer finds nothing in the kernels", *_sanitized(found["sanitizer"])
    run = {name: model for name, model in found["models"].items() if "failed" not in model}
    wanted = f"results as the CPU's ({len(found['models'])} models and precisions)"
    if not found["models"]:
        yield wanted, "-", "not run: TensorRT does not run here" if found["device"]["refused"] else "not run: no model"
        return
    wrong = [name for name in found["models"] if name not in run or run[name]["wrong"]]
    yield wanted, f"{len(run)} ran, {len(wrong)} failed or differ", _verdict(not wrong) + _named(wrong)
    if not run:
        return
    shares = {
        f"{name} batch {rate['batch']}": rate["share"]
        for name, model in run.items()
        for rate in model["rates"]
        if rate["batch"] >= FROM_BATCH
    }
    what = f"end to end through Model at least {SHARE} of the bare loop from batch {FROM_BATCH} on"
    below = [name for name, share in shares.items() if share < SHARE]
    least = f"{min(shares.values()):.3f} at the least" if shares else "-"
    end_to_end = what, least, _verdict(not below) + _named(below) if shares else "not run: no batch is that large"
    yield _not_judged(end_to_end) if found["device"]["standin"] else end_to_end
    allocating = [name for name, model in run.items() if model["allocations"]]
    most = max(model["allocations"] for model in run.values())
    batches = min(model["counted_batches"] for model in run.values())
    yield "nothing is allocated for a frame", f"{most} in {batches} batches at the most", _verdict(not allocating)
    waiting = [name for name, model in run.items() if model["waits_per_batch"] != 1]
    waits = max((model["waits_per_batch"] for model in run.values()), key=lambda waits: abs(waits - 1))
    yield "one wait for each batch", f"{waits:g}", _verdict(not waiting) + _named(waiting)


def _not_judged(target: tuple[str, str, str]) -> tuple[str, str, str]:
    return target[0], "-", "not judged: a stand-in has no speed"


def is_right(found: Found) -> bool:
    """Whether all that ran is right; speed is another matter."""
    models = found["models"].values()
    return (
        "failed" not in found["memory"]
        and _agrees(found["memory"]["agreement"])
        and not (found["device"]["tensorrt"] and found["device"]["refused"])
        and all(errors == 0 for errors in (found["sanitizer"] or {}).values())
        and not any("failed" in model or model["wrong"] or model["allocations"] for model in models)
    )


def _kernel_numbers(memory: Found) -> tuple[str, str, str]:
    what = f"preparation within {LEVELS} level of the CPU's, the same in a graph"
    if "failed" in memory:
        return what, "-", f"failed: {memory['failed']}"
    agreement = memory["agreement"]
    graph = agreement["graph_levels"]
    in_graph = "no graphs by this binding" if graph is None else f"{graph} in a graph"
    return (
        what,
        f"{agreement['levels']} level over {agreement['cases']} cases, {in_graph}",
        _verdict(_agrees(agreement)),
    )


def _agrees(agreement: Found) -> bool:
    return bool(agreement["levels"] <= LEVELS and not agreement["graph_levels"])


def _kernel_speed(memory: Found) -> tuple[str, str, str]:
    what = f"preparation kernel at least {KERNEL_SHARE} of the copy bandwidth of the device"
    if "failed" in memory:
        return what, "-", "not run"
    copied = 2 * memory["copies"]["device_to_device"]
    share = {name: speed["gb_s"] / copied for name, speed in memory["speeds"].items()}
    below = [name for name, part in share.items() if part < KERNEL_SHARE]
    return what, f"{min(share.values()):.2f} at the least", _verdict(not below) + _named(below)


def _sanitized(sanitizer: Found | None) -> tuple[str, str]:
    if sanitizer is None:
        return "-", "not run: compute-sanitizer is not installed (it comes with the CUDA toolkit)"
    said = ", ".join(f"{tool} {errors}" for tool, errors in sanitizer.items())
    return said, _verdict(all(errors == 0 for errors in sanitizer.values()))


def _memory(memory: Found) -> str:
    if "failed" in memory:
        return f"Memory and kernels: {memory['failed']}"
    copies, names = memory["copies"], {"host_to_device": "pinned to device", "device_to_host": "device to pinned"}
    rows: list[tuple[object, ...]] = [(said, f"{copies[name]:.1f}", "") for name, said in names.items()]
    rows.append(("within the device, read and written", f"{2 * copies['device_to_device']:.1f}", ""))
    for name, speed in memory["speeds"].items():
        rows.append((f"preparation of 8, {name}", f"{speed['gb_s']:.1f}", f"{speed['us']:.0f}"))
    return table(("memory", "GB/s", "us"), rows)


def models_table(models: Found) -> str:
    """A row for each size of batch."""
    header = (
        *("model", "floats", "build, s", "plan, MB", "from the CPU's (limit)", "one picture, ms: median / p95"),
        *(
            "frames/s: batch",
            "through Model",
            "bare loop",
            "share",
            "thread: prepare / submit / wait / read",
        ),
        *("prepared by", "graphs"),
    )
    rows: list[tuple[object, ...]] = []
    for name, model in models.items():
        if "failed" in model:
            rows.append((name, "failed", *[""] * (len(header) - 2)))
            continue
        latency = f"{model['latency_ms']:.2f} / {model['latency_p95_ms']:.2f}"
        agrees = f"{model['distance']:.3f} ({model['distance_limit']:.2f})" + (" DIFFERS" if model["wrong"] else "")
        first = (name, model["floats"], f"{model['build_s']:.0f}", f"{model['plan_mb']:.1f}", agrees, latency)
        for index, rate in enumerate(model["rates"]):
            thread = " / ".join(f"{part:.0%}" for part in rate["thread"].values())
            figures = (rate["batch"], f"{rate['through_model']:.0f}", f"{rate['bare']:.0f}", f"{rate['share']:.3f}")
            last = (model["prepare"], model["graphs"]) if not index else ("", "")
            rows.append((*(first if not index else [""] * len(first)), *figures, thread, *last))
    return table(header, rows)


def _verdict(good: bool) -> str:
    return "met" if good else "missed"


def _named(names: list[str]) -> str:
    return f": {', '.join(names)}" if names else ""
