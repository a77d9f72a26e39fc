"""Every command as it is typed: what it prints, what it ends with, and what it says to bad input."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
import typer
import yaml
from typer.testing import CliRunner

from agent.commands._app import app
from engines.card import Quantisation, read_card, sha256_of, write_card
from engines.store import ModelStore
from tests.support.agents import fake_model, fake_store
from tests.support.broker import Mosquitto, Subscriber
from tests.support.clips import SHORT
from tests.support.means import means_model
from tests.support.process import Sightwire, sightwire
from tests.support.street import street_video

BAD = """\
agent: {name: Gatehouse}
modles:
  people: {model: person-ssdlite}
cameras:
  dock:
    sorce: rtsp://10.0.0.7/stream1
    models: [people]
  events:
    source: {type: file, path: x.mp4, pase: live}
    models: [people, {use: people, every: soon}]
"""


def config(folder: Path, text: str | dict[str, Any]) -> Path:
    path = folder / "site.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text), encoding="utf-8")
    return path


def site(models: dict[str, Any], source: Any, uses: list[Any], **sections: Any) -> dict[str, Any]:
    cameras = {"dock": {"source": source, "models": uses}}
    return {"agent": {"name": "gatehouse"}, "models": models, "cameras": cameras, **sections}


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = fake_store(tmp_path / "models").root
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(root))
    return root


@pytest.fixture
def street(real_models: ModelStore) -> Path:
    """The demo's video, where the demo looks for it."""
    return street_video(real_models)


def here(*arguments: str | Path) -> tuple[int, str, str]:
    """The command in this process, quicker than `sightwire`: exit status, standard output, standard error."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


# -- help and check


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize("path", commands(typer.main.get_command(app)), ids=" ".join)
def test_the_help_of_every_command_has_an_example(path: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, [*path, "--help"])
    assert said.exit_code == 0
    shown = " ".join(said.stdout.split()).replace("Example: sudo sightwire", "Example: sightwire")
    assert f"Example: sightwire {' '.join(path)}".rstrip() in shown


def test_check_names_every_mistake_with_its_line_at_once(tmp_path: Path) -> None:
    path = config(tmp_path, BAD)
    status, out, err = here("check", path)
    assert (status, out) == (78, "")
    lines = [line.removeprefix("sightwire: ").removeprefix(f"{path}:") for line in err.splitlines()]
    assert len(lines) == 8
    for expected in (
        "1: agent.name: expected a name of a-z",
        "1: models: is missing",
        "2: modles: unknown key, did you mean 'models'?",
        "5: cameras.dock.source: is missing",
        "6: cameras.dock.sorce: unknown key, did you mean 'source'?",
        "8: cameras.events: 'events' is a reserved word",
        "9: cameras.events.source.pase: unknown key, did you mean 'pace'?",
        "10: cameras.events.models[1].every: expected a duration",
    ):
        assert any(line.startswith(expected) for line in lines), expected


def test_check_and_run_say_the_same_of_a_wrong_file(tmp_path: Path) -> None:
    path = config(tmp_path, BAD)
    assert sightwire("check", path) == sightwire("run", path)


def test_check_and_run_say_the_same_of_a_certificate_that_is_not_there(tmp_path: Path, fakes: Path) -> None:
    """Which --no-models, on another machine than the agent's, does not look for."""
    path = tmp_path / "site.yaml"
    mqtt = {"url": "mqtts://127.0.0.1:1", "ca": "/absent/ca.pem"}
    path.write_text(yaml.safe_dump({**site({"c": fake_model("classes")}, "x.mp4", ["c"]), "mqtt": mqtt}))
    checked = sightwire("check", path, models=fakes)
    assert checked == sightwire("run", path, models=fakes)
    assert checked == (78, "", "sightwire: ca: /absent/ca.pem: no such file or directory\n")
    assert here("check", "--no-models", path)[0] == 0


def test_check_says_where_pictures_are_kept(tmp_path: Path, fakes: Path) -> None:
    collect = {"collect": {"folder": str(tmp_path / "kept"), "limit": 7}}
    path = config(tmp_path, site({"c": fake_model("classes")}, "x.mp4", ["c"], calibration=collect))
    assert f"  pictures are kept: at most 7 of each camera, in {tmp_path / 'kept'}\n" in here("check", path)[1]
    assert not (tmp_path / "kept").exists(), "checking makes nothing"


@pytest.mark.parametrize("before", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
def test_files_from_other_editors_are_read(tmp_path: Path, fakes: Path, before: str) -> None:
    good = yaml.safe_dump(site({"c": fake_model("classes")}, "x.mp4", ["c"]))
    path = tmp_path / "site.yaml"
    path.write_bytes((before + good.replace("\n", "\r\n")).encode())
    status, out, err = here("check", path)
    assert (status, err) == (0, "")
    assert "1 camera: dock" in out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"agent:\n\tname: x\n", ":2: not YAML: found character '\\t'"),
        (b"agent: {name: \xff}\n", ": cannot be read: not UTF-8 text"),
        (b"", ":1: expected keys such as 'agent:'"),
        (b"\x00\x01", ":1: not YAML"),
    ],
    ids=["tabs", "latin-1", "empty", "binary"],
)
def test_what_is_no_configuration_is_said_in_one_line(tmp_path: Path, text: bytes, expected: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(text)
    status, _, err = here("check", path)
    assert status == 78
    assert err.startswith(f"sightwire: {path}{expected}")
    assert err.count("\n") == 1


# -- models that do not fit


def _edit(folder: Path, **changes: Any) -> None:
    write_card(read_card(folder).model_copy(update=changes), folder)


def _rehashed(folder: Path, content: bytes) -> None:
    (folder / "model.onnx").write_bytes(content)
    file = read_card(folder).files["fp32"].model_copy(update={"sha256": sha256_of(folder / "model.onnx")})
    _edit(folder, files={"fp32": file})


def _cut_short(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])


def _float_input(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    _rehashed(folder, model.SerializeToString())


def _unproven(folder: Path) -> None:
    _edit(folder, files={"int8": read_card(folder).files["fp32"]})


Breakage = dict[str, tuple[Callable[[Path], Any], str]]
BROKEN_CARDS: Breakage = {
    "task": (lambda f: _edit(f, task={"type": "dance"}), "task.type: 'dance' is not known, known: classify"),
    "key": (lambda f: _edit(f, task={"type": "classify", "score": "x"}), "task.score: "),
    "gone": (lambda f: (f / "card.yaml").unlink(), "there is no model 'gone'"),
    "text": (lambda f: (f / "card.yaml").write_text("{"), "card.yaml: not a readable card"),
    "precision": (_unproven, "precision has no fp32 file, only int8"),
}
BROKEN_FILES: Breakage = {
    "altered": (lambda f: (f / "model.onnx").write_bytes(b"other"), "the file is cut short or altered"),
    "cut": (_cut_short, "the file is cut short or altered"),
    "gone": (lambda f: (f / "model.onnx").unlink(), "cannot be read (No such file or directory)"),
    "garbage": (lambda f: _rehashed(f, b"not a network"), "OpenVINO cannot compile it"),
    "labels": (
        lambda f: _edit(f, labels=("a", "b")),
        "has rows of shape (3), but 2 labels and {type: classify} want (2); 3 labels would fit",
    ),
    "output": (
        lambda f: _edit(f, task={"type": "classify", "scores": "logits"}),
        "has no output 'logits', only scores",
    ),
    "floats": (_float_input, "its inputs are f32 (?, 3, 32, 32), not one u8 (?, 3, 32, 32): the card does not fit it"),
    "unproven": (_unproven, "its INT8 file carries no accuracy proof"),
}


@pytest.mark.parametrize("broken", [BROKEN_CARDS, BROKEN_FILES], ids=["cards", "files"])
def test_models_that_do_not_fit_are_all_refused_by_name_before_anything_starts(
    tmp_path: Path, fakes: Path, broken: Breakage
) -> None:
    good = fakes / "classes"
    means_model(good / "model.onnx")
    _rehashed(good, (good / "model.onnx").read_bytes())
    entry = {"precision": "fp32", "backend": "openvino"}
    models = {name: {**entry, "model": name} for name in broken}
    for name, (spoil, _) in broken.items():
        shutil.copytree(good, fakes / name)
        _edit(fakes / name, name=name)
        spoil(fakes / name)
    if "unproven" in models:
        models["unproven"]["precision"] = "int8"
    path = config(tmp_path, site(models, {"type": "synthetic"}, [*broken], sinks=[{"type": "jsonl", "path": "-"}]))
    status, out, err = sightwire("run", path)
    assert (status, out) == (78, "")
    assert "Traceback" not in err
    assert err.startswith("sightwire: ")
    lines = err.removeprefix("sightwire: ").splitlines()
    assert len(lines) == len(broken)
    for name, (_, expected) in broken.items():
        (line,) = (line for line in lines if line.startswith(f"{path}:") and f": models.{name}: " in line)
        assert expected in line


def test_the_nearest_model_is_named(tmp_path: Path, fakes: Path) -> None:
    path = config(tmp_path, site({"p": {"model": "person-ssdlight"}}, "x.mp4", ["p"]))
    status, _, err = here("check", path)
    assert status == 78
    assert "did you mean 'person-ssdlite'? ('sightwire models pull person-ssdlite' gets it)" in err


# -- run on a recording, to standard output


def test_a_recording_is_one_line_of_output_for_every_result(tmp_path: Path, fakes: Path) -> None:
    uses = ["c", {"use": "d", "every": "500ms"}]
    models = {"c": fake_model("classes"), "d": fake_model("classes")}
    clip = tmp_path / "a clip: 100% [odd] #1.mp4"
    clip.write_bytes(SHORT.path().read_bytes())
    path = config(tmp_path, site(models, str(clip), uses, sinks=[{"type": "jsonl", "path": "-"}]))
    with Sightwire("run", path) as agent:
        assert agent.wait() == 0
        seqs = {use: [m["seq"] for m in agent.messages if m.get("use") == use] for use in "cd"}
        kinds = [m["topic"].rpartition("/")[2] for m in agent.messages]
    assert seqs == {"c": list(range(45)), "d": [0, 15, 30]}
    assert kinds.count("classification") == 48
    assert kinds[-2:] == ["metrics", "status"]
    assert set(kinds) == {"about", "classification", "metrics", "status"}


@pytest.mark.parametrize(("sink", "reason"), [("/dev/full", "no space left on device"), ("/nowhere/x", "no such file")])
def test_a_sink_that_cannot_write_is_said_once_a_topic_and_the_rest_runs_on(
    tmp_path: Path, fakes: Path, sink: str, reason: str
) -> None:
    sinks = [{"type": "jsonl", "path": sink}, {"type": "jsonl", "path": "-"}]
    source = {"type": "synthetic", "pace": "lossless", "frames": 40}
    path = config(tmp_path, site({"c": fake_model("classes")}, source, ["c"], sinks=sinks))
    with Sightwire("run", path) as agent:
        assert agent.wait() == 0
        assert 1 <= agent.err.count(reason) <= 5
        (metrics,) = (m for m in agent.messages if m["topic"].endswith("metrics"))
    broken, good = metrics["sinks"]["jsonl"], metrics["sinks"]["jsonl-2"]
    assert broken["sent"] == 0
    assert good["sent"] >= 40
    for counts in (broken, good):
        assert counts["made"] == sum(counts[fate] for fate in ("sent", "replaced", "stale", "failed", "waiting"))


def test_a_reader_that_goes_away_ends_no_recording_and_gives_no_traceback(tmp_path: Path, fakes: Path) -> None:
    source = {"type": "synthetic", "pace": "lossless", "frames": 300}
    path = config(tmp_path, site({"c": fake_model("classes")}, source, ["c"], sinks=[{"type": "jsonl", "path": "-"}]))
    with Sightwire("run", path, models=fakes, reads=1) as agent:
        assert agent.wait() == 0
        assert "broken pipe" in agent.err
        assert "Traceback" not in agent.err


# -- models


def test_models_lists_what_is_here_and_what_can_be_had(fakes: Path) -> None:
    status, out, err = here("models", "list", "--json")
    assert (status, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert rows["classes"]["installed"]
    assert not rows["person-ssdlite"]["installed"]
    assert "person-ssdlite" in here("models", "list")[1]


def test_a_list_survives_a_broken_card(fakes: Path) -> None:
    (fakes / "classes" / "card.yaml").write_text("name: [")
    status, out, err = here("models", "list")
    assert (status, err) == (0, "")
    assert "not a readable card" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("show", "clases"), "there is no model 'clases', did you mean 'classes'?"),
        (("show", "/nowhere/card.yaml"), "/nowhere/card.yaml: no such model card"),
        (("pull", "person-ssdlight"), "did you mean 'person-ssdlite'?"),
        (("pull", "person-ssdlite", "yolox-nano", "--from", "x"), "name one"),
        (("pull", "person-ssdlite", "--from", "/nowhere.whl"), "/nowhere.whl: cannot be read"),
        (("pull", "person-ssdlite", "--from", "/dev/null"), "nothing was opened or kept"),
    ],
)
def test_models_answers_a_mistake_in_one_line(fakes: Path, arguments: tuple[str, ...], expected: str) -> None:
    status, out, err = here("models", *arguments)
    assert (status, out) == (1, "")
    said = [line for line in err.splitlines() if line]
    assert len(said) == 1
    assert expected in said[0]


def test_show_says_what_a_model_is(real_models: ModelStore) -> None:
    status, out, _ = here("models", "show", real_models.root / "person-ssdlite", "--json")
    shown = json.loads(out)
    assert status == 0
    assert shown["files"]["int8"]["quantisation"]["accuracy"]["metric"]
    assert "person" in here("models", "show", real_models.root / "person-ssdlite")[1]


def test_show_says_how_int8_was_made_what_it_loses_and_where_the_proof_is(fakes: Path) -> None:
    folder = fakes / "classes"
    card = read_card(folder)
    made = Quantisation(
        table="0" * 64, method="percentile 99.99 + feedback rounding", calibration_set="1" * 64, pictures=70,
        accuracy={"metric": "top-1", "fp32": 0.8, "int8": 0.79, "interval": [-0.005, 0.02], "pictures": 60},
    )  # fmt: skip
    file = next(iter(card.files.values())).model_copy(update={"quantisation": made})
    write_card(card.model_copy(update={"files": {"int8": file}}), folder)
    (folder / "report.html").touch()
    said = " ".join(here("models", "show", folder)[1].split())
    assert "percentile 99.99 + feedback rounding over 70 pictures" in said
    assert "top-1: 0.8 in FP32, 0.79 in INT8, the loss -0.0050 to 0.0200 (95 %), on 60 pictures" in said
    assert "report.html" in said.replace(" ", "")


# -- bench


@pytest.mark.alone
def test_bench_of_a_recording_adds_up(street: Path, real_models: ModelStore) -> None:
    arguments = ("--model", "person-ssdlite", "--source", street, "--seconds", "0.5", "--json")
    status, out, err = sightwire("bench", *arguments, models=real_models.root)
    assert status == 0, err
    report = json.loads(out)
    counts = report["whole"]["accounts"]["camera0"]["model"]
    assert counts["offered"] == sum(n for name, n in counts.items() if name != "offered")
    assert counts["waiting"] == counts["failed"] == 0
    assert 0 < report["whole"]["results"] <= counts["inferred"] <= counts["offered"] <= 250
    assert report["whole"]["latency"] is None
    network = report["network"]["model"]
    assert network["description"]["precision"] == "int8"
    # One cannot be much faster than the other; in half a second of a busy machine they differ by a half.
    assert report["whole"]["per_second"] <= 3 * network["per_second"]
    assert report["decode"]["camera0"]["size"] == [640, 272]


@pytest.mark.alone
def test_bench_of_live_cameras_measures_up_to_a_subscriber(tmp_path: Path, fakes: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        live = {"type": "synthetic", "rate": 100}
        path = config(tmp_path, site({"c": fake_model("classes", delay_ms=2)}, live, ["c"]))
        status, out, err = sightwire("bench", path, "--broker", broker.url, "--seconds", "0.5", "--json")
    assert status == 0, err
    whole = json.loads(out)["whole"]
    assert whole["until"] == "the subscriber"
    assert 0 < whole["latency"]["p50"] <= whole["latency"]["p95"] <= whole["latency"]["most"] < 1000
    assert whole["results"] <= whole["accounts"]["dock"]["c"]["inferred"]
    assert 20 < whole["per_second"] < 110


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("--model", "classes"), 78, "give a configuration, or both --model and --source"),
        (("--model", "clases", "--source", "x.mp4"), 1, "x.mp4: cannot be opened"),
        (("--model", "x", "--source", "ftp://u:hunter2@h/"), 78, "unknown kind of URL, ftp://"),
    ],
)
def test_bench_answers_a_mistake_in_one_line(
    fakes: Path, arguments: tuple[str, ...], status: int, expected: str
) -> None:
    ended, out, err = here("bench", *arguments, "--seconds", "0.5")
    assert (ended, out) == (status, "")
    assert expected in err
    assert "hunter2" not in err
    assert "Traceback" not in err


# -- watch


def test_watch_prints_every_message_as_json(tmp_path: Path, fakes: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        source = {"type": "synthetic", "rate": 50}
        path = config(tmp_path, site({"c": fake_model("classes")}, source, ["c"], mqtt={"url": broker.url}))
        with (
            Sightwire("watch", broker.url, "--json") as watch,
            Sightwire("run", path) as agent,
        ):
            watch.wait_for(lambda it: it.out.count("classification/1") > 20)
            assert agent.end() == 0
            watch.wait_for(lambda it: '"state": "offline"' in it.out)
            watch.interrupt()
            assert watch.wait() == 0
            assert watch.err == ""
            seqs = [m["seq"] for m in watch.messages if m["topic"] == "sightwire/gatehouse/dock/c/classification"]
    assert seqs == sorted(set(seqs))


@pytest.mark.parametrize(
    ("url", "status", "expected"),
    [
        ("mqtt://127.0.0.1:1", 1, "mqtt://127.0.0.1:1: connection refused"),
        ("mqtt://u:hunter2@127.0.0.1", 2, "credentials do not belong in the URL"),
        ("127.0.0.1", 2, "not a broker URL"),
    ],
)
def test_watch_answers_a_mistake_in_one_line(url: str, status: int, expected: str) -> None:
    ended, out, err = here("watch", url, "--seconds", "0.5")
    assert (ended, out) == (status, "")
    assert expected in err.splitlines()[-1]
    assert "hunter2" not in err


# -- demo


def family(command: Sightwire) -> list[psutil.Process]:
    return psutil.Process(command.pid).children(recursive=True)


def test_the_demo_finds_a_person_and_ends_by_itself(street: Path, real_models: ModelStore) -> None:
    pytest.importorskip("amqtt")
    with Sightwire("demo", "--seconds", "6", models=real_models.root) as demo:
        demo.wait_for(lambda it: re.search(r"person (×\d+ )?0\.", it.out))
        children = family(demo)
        assert demo.wait() == 0
        assert "First detection" in demo.out
        assert demo.err.strip() == ""
    assert len(children) == 2
    assert not psutil.wait_procs(children, 5)[1]


@pytest.mark.parametrize("how", ["interrupt", "terminate", "kill"])
def test_however_the_demo_ends_nothing_of_it_is_left(
    tmp_path: Path, street: Path, real_models: ModelStore, how: str
) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.observer_url) as listener:
        with Sightwire("demo", "--broker", broker.url, models=real_models.root) as demo:
            listener.wait_for_topic("sightwire/demo/street/scene/classification", 15)
            children = family(demo)
            if how == "interrupt":
                demo.interrupt()
            else:
                demo.send(signal.SIGTERM if how == "terminate" else signal.SIGKILL)
            assert demo.wait() == (-9 if how == "kill" else 0)
            assert "Traceback" not in demo.err
            assert not psutil.wait_procs(children, 10)[1]
        listener.wait_for(
            lambda seen: any(m.topic == "sightwire/demo/status" and b"offline" in m.payload for m in seen)
        )


@pytest.mark.parametrize(
    ("broker", "status", "expected"),
    [
        ("mqtt://127.0.0.1:1", 1, "connection refused"),
        ("http://u:hunter2@x", 2, "--broker: credentials do not belong in the URL"),
    ],
)
def test_the_demo_says_what_is_wrong_with_a_broker(
    street: Path, real_models: ModelStore, broker: str, status: int, expected: str
) -> None:
    ended, _, err = sightwire("demo", "--seconds", "1", "--broker", broker, models=real_models.root)
    assert ended == status
    assert expected in err.splitlines()[-1]
    assert "hunter2" not in err
