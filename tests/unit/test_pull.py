"""Pulling: real HTTP and real pip against what is made here, and the real models where the index can be reached."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import Result
from typer.testing import CliRunner

from agent.commands import models as command
from engines import catalogue, download, qdq
from engines.card import model_file, sha256_of
from engines.catalogue import Entry, Int8
from engines.errors import CardError, FetchError, ModelFileError
from engines.fetch import Route, Stage
from engines.graph import load, serialise
from engines.importing import import_model
from engines.importing.facts import Given
from engines.pull import fp32_graph, pull
from engines.qdq import Table, activations, apply, quantised_nodes
from engines.store import ModelStore
from tests.support import web
from tests.support.models import CLASSES, REAL, SIZE, tiny_bytes
from tests.support.patience import PATIENCE_S
from tests.support.web import Site, forward_proxy, web_server

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


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server on loopback that has the weights under /tiny.onnx."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_BACKOFF_S", 0.001)
    with web_server() as site:
        site.files["/tiny.onnx"] = WEIGHTS
        yield site


@pytest.fixture
def server(site: Site) -> str:
    """Its URL."""
    return site.url


def url(address: str) -> dict[str, Any]:
    return {"url": address, "size": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}


def test_pulls_from_a_server(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """Both files, their card with the proof, and progress that reaches the end of the download."""
    entry = known[NAME] = entry_for(url(f"{server}/tiny.onnx"))
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
    entry = known[NAME] = entry_for(url(f"{server}/tiny.onnx"))
    card, folder = pull(NAME, store)
    known[NAME] = entry.model_copy(update={"fetch": entry.fetch.model_copy(update={"url": f"{server}/gone"})})
    assert pull(NAME, store) == (card, folder)
    (folder / "model.int8.onnx").write_bytes(b"altered")
    known[NAME] = entry
    assert pull(NAME, store) == (card, folder)
    assert sha256_of(folder / "model.int8.onnx") == card.files["int8"].sha256


@pytest.mark.parametrize(
    ("body", "complaint"),
    [(None, "the server says 404"), (WEIGHTS + b"more", "another version"), (bytes(len(WEIGHTS)), "sha256 is")],
)
def test_bad_downloads(
    known: dict[str, Entry], store: ModelStore, site: Site, body: bytes | None, complaint: str
) -> None:
    """Each is named with its URL, and nothing is left behind."""
    known[NAME] = entry_for(url(f"{site.url}/other"))
    if body is not None:
        site.files["/other"] = body
    with pytest.raises(FetchError, match=complaint) as caught:
        pull(NAME, store)
    assert f"{site.url}/other" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(store.root.iterdir()) == []


def test_an_interrupted_download_goes_on(known: dict[str, Entry], store: ModelStore, site: Site) -> None:
    """In the next pull; nothing of it is left when the model is there."""
    known[NAME] = entry_for(url(f"{site.url}/tiny.onnx"))
    site.answers["/tiny.onnx"] = [web.cut(1000)]

    def interrupt(stage: Stage, done: int = 0, total: int | None = None) -> None:
        if done >= 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(NAME, store, interrupt)
    pull(NAME, store)
    assert site.ranges() == [None, "bytes=1000-"]
    assert sorted(path.name for path in store.root.iterdir()) == [".lock", NAME]


def test_a_second_url(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """Asked when the first fails; when all fail, all are named."""
    known[NAME] = entry_for({**url(f"{server}/gone"), "mirrors": [f"{server}/tiny.onnx"]})
    assert pull(NAME, store)[0].origin.source == f"{server}/gone"
    known[NAME] = entry_for({**url(f"{server}/gone"), "mirrors": [f"{server}/lost"]})
    with pytest.raises(FetchError, match=r"/gone: the server says 404.*/lost: the server says 404"):
        pull(NAME, store, again=True)


def test_a_mirror(known: dict[str, Entry], store: ModelStore, site: Site, tmp_path: Path) -> None:
    """A folder or its URL, asked instead of the catalogue's; the sha256 is the catalogue's."""
    known[NAME] = entry_for(url("http://127.0.0.1:1/models/tiny.onnx"))
    assert pull(NAME, store, route=Route(mirror=f"{site.url}/"))[0].origin.source.startswith("http://127.0.0.1:1/")
    (tmp_path / "tiny.onnx").write_bytes(WEIGHTS)
    assert pull(NAME, store, again=True, route=Route(mirror=str(tmp_path)))
    (tmp_path / "tiny.onnx").write_bytes(WEIGHTS[1:])
    with pytest.raises(FetchError, match="sha256 is"):
        pull(NAME, store, again=True, route=Route(mirror=str(tmp_path)))


def test_two_pulls_at_once_fetch_once(known: dict[str, Entry], store: ModelStore, site: Site) -> None:
    """The second says that it waits, then takes what the first has installed."""
    known[NAME] = entry_for(url(f"{site.url}/tiny.onnx"))
    waits = threading.Event()
    results = []

    def second(stage: Stage, done: int = 0, total: int | None = None) -> None:
        assert stage == "wait"
        waits.set()

    thread = threading.Thread(target=lambda: results.append(pull(NAME, store, second)))

    def first(stage: Stage, done: int = 0, total: int | None = None) -> None:
        if stage == "fetch" and not waits.is_set():
            thread.start()
            assert waits.wait(PATIENCE_S)

    results.append(pull(NAME, store, first))
    thread.join(PATIENCE_S)
    assert results[0] == results[1]
    assert len(site.requests) == 1


def test_weights_that_nobody_here_has_seen(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """FP32 only, and the card says so; what is known is checked all the same."""
    entry = entry_for(url(f"{server}/tiny.onnx"), fp32=None, int8=None)
    known[NAME] = entry
    card, _ = pull(NAME, store)
    assert list(card.files) == ["fp32"]
    assert not card.origin.seen
    assert pull(NAME, store)[0] == card
    known[NAME] = entry.model_copy(update={"labels": ("a", "b")})
    with pytest.raises(CardError, match="2 labels"):
        pull(NAME, store)
    with pytest.raises(ValueError, match="fp32 may be missing only"):
        Entry.model_validate({**entry.model_dump(exclude={"text"}), "int8": {"sha256": "0" * 64, "accuracy": {}}})


def test_a_failed_pull_keeps_the_old_model(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """Asked to pull again from a server that has lost the file."""
    entry = known[NAME] = entry_for(url(f"{server}/tiny.onnx"))
    before = pull(NAME, store)
    known[NAME] = entry.model_copy(update={"fetch": entry.fetch.model_copy(update={"url": f"{server}/gone"})})
    with pytest.raises(FetchError):
        pull(NAME, store, again=True)
    assert store.find(NAME) == before


def test_a_users_own_model_is_replaced_only_when_asked(
    known: dict[str, Entry], store: ModelStore, server: str, tmp_path: Path
) -> None:
    """Importing under a name of the catalogue is allowed, and pulling that name is no reason to lose it."""
    known[NAME] = entry_for(url(f"{server}/tiny.onnx"))
    file = tmp_path / "net.onnx"
    file.write_bytes(WEIGHTS)
    pixels = {"channels": "rgb", "mean": "127", "std": "128", "fit": "stretch"}
    given = Given(family="classifier", name=NAME, labels="numbers", task={"activation": "softmax"}, **pixels)
    before = import_model(file, given, store)
    with pytest.raises(CardError, match=r"is a model that was imported from net\.onnx; give --again"):
        pull(NAME, store)
    assert store.find(NAME)[0] == before.card
    pull(NAME, store, again=True)
    assert store.find(NAME)[0].imported is None


def test_ctrl_c_leaves_no_half_a_model(known: dict[str, Entry], store: ModelStore, site: Site) -> None:
    """Whatever the stage it hits; what was fetched is not fetched again."""
    known[NAME] = entry_for(url(f"{site.url}/tiny.onnx"))
    for wanted in ("convert", "prove", "quantise"):

        def interrupt(stage: Stage, done: int = 0, total: int | None = None, wanted: str = wanted) -> None:
            if stage == wanted:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pull(NAME, store, interrupt)
        assert all(path.name.startswith((".lock", ".download-")) for path in store.root.iterdir())
    pull(NAME, store)
    assert len(site.requests) == 1
    assert sorted(path.name for path in store.root.iterdir()) == [".lock", NAME]


def test_another_export_gets_no_int8(known: dict[str, Entry], store: ModelStore, server: str) -> None:
    """The proof is for other bytes: FP32 only, and left alone by the next pull."""
    known[NAME] = entry_for(url(f"{server}/tiny.onnx"), fp32="1" * 64)
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
    entry = entry_for(url(f"{server}/tiny.onnx"))
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


def test_a_mirror_of_packages(
    known: dict[str, Entry], store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of wheels, asked instead of the index."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    known[NAME] = entry_for(wheel(tmp_path / "usb"))
    assert pull(NAME, store, route=Route(mirror=str(tmp_path / "usb")))[0].name == NAME


def test_packages_through_a_proxy(
    known: dict[str, Entry], store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pip is told of it, where other users of the machine cannot read its password."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "index.invalid")
    monkeypatch.setenv("PIP_RETRIES", "0")
    known[NAME] = entry_for(wheel(tmp_path / "usb"))
    with forward_proxy() as proxy:
        proxy.refuses = True
        with pytest.raises(FetchError, match=r"tiny-weights==1\.0"):
            pull(NAME, store, route=Route(proxy=f"http://user:pass@{proxy.address}"))
        assert proxy.requests[0] == "GET http://index.invalid/simple/tiny-weights/"
        assert proxy.credentials[0] is not None


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
            assert len(text) < 100_000  # 1 % of the largest; test_real_models compares each with its model


@pytest.fixture
def cli(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`sightwire models` with these arguments, over the test's store."""
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(store.root))
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(command.app, list(arguments))


def test_command(known: dict[str, Entry], server: str, cli: Callable[..., Result]) -> None:
    """List, pull and show, for people and as JSON; a mistake is one line and code 1."""
    known[NAME] = entry_for(url(f"{server}/tiny.onnx"))
    (row,) = json.loads(cli("list", "--json").stdout)["models"]
    assert row == {
        "name": NAME, "summary": "five kinds of things", "licence": "MIT", "source": f"{server}/tiny.onnx",
        "download_bytes": len(WEIGHTS), "seen": True, "installed": False, "precisions": [],
    }  # fmt: skip
    assert cli("pull", NAME).exit_code == 0
    assert re.search(r"tiny +fp32, int8 +MIT +0\.0 +URL +five kinds", cli("list").stdout)
    assert json.loads(cli("show", NAME, "--json").stdout)["max_batch"] == 4
    assert "top-1: 1.0 in FP32" in cli("show", NAME).stdout
    failed = cli("show", "tinny")
    assert failed.exit_code == 1
    assert "did you mean 'tiny'" in failed.output
    assert failed.output.count("\n") == 1


def test_command_says_what_was_never_tried(known: dict[str, Entry], server: str, cli: Callable[..., Result]) -> None:
    """In the list, in what a pull says, and in what is shown of the card."""
    known[NAME] = entry_for(url(f"{server}/tiny.onnx"), fp32=None, int8=None)
    assert "tiny *" in cli("list").stdout
    assert "never tried by us" in cli("pull", NAME).output
    assert "never tried by us" in cli("show", NAME).output


def test_command_takes_a_file_a_folder_or_a_mirror(
    known: dict[str, Entry], site: Site, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By --from or from the environment; a file is of one model only."""
    known[NAME] = entry_for(url("http://127.0.0.1:1/models/tiny.onnx"))
    (tmp_path / "tiny.onnx").write_bytes(WEIGHTS)
    for where in (str(tmp_path / "tiny.onnx"), str(tmp_path), site.url):
        assert cli("pull", NAME, "--again", "--from", where).exit_code == 0
    assert "name one" in cli("pull", NAME, NAME, "--from", str(tmp_path / "tiny.onnx")).output
    monkeypatch.setenv("SIGHTWIRE_MIRROR", site.url)
    assert cli("pull", NAME, "--again").exit_code == 0
    assert len(site.requests) == 2


def test_command_goes_through_a_proxy(known: dict[str, Entry], site: Site, cli: Callable[..., Result]) -> None:
    """--proxy."""
    known[NAME] = entry_for(url(f"{site.url}/tiny.onnx"))
    with forward_proxy() as proxy:
        assert cli("pull", NAME, "--proxy", proxy.url).exit_code == 0
        assert proxy.requests == [f"GET {site.url}/tiny.onnx"]


def test_command_interrupted(
    known: dict[str, Entry], server: str, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says how to go on."""
    known[NAME] = entry_for(url(f"{server}/tiny.onnx"))
    monkeypatch.setattr("engines.pull.fetch", Mock(side_effect=KeyboardInterrupt))
    result = cli("pull", NAME)
    assert result.exit_code == 130
    assert "'sightwire models pull tiny' goes on where it stopped" in result.output


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
