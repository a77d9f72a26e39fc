"""Model folders: found by name or path, installed whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.card import Card, Input, Origin, write_card
from engines.errors import CardError
from engines.store import ModelStore, default_root


def card(name: str = "thing", **changes: object) -> Card:
    content: dict[str, object] = {
        "schema": "sightwire.card/1",
        "name": name,
        "summary": "things",
        "input": Input(width=16, height=16, fit="stretch"),
        "task": {"type": "classify", "scores": "logits"},
        "labels": ("a", "b", "c", "d", "e"),
        "files": {},
        "origin": Origin(source="a test", sha256="0" * 64, licence="MIT"),
    }
    return Card.model_validate({**content, **changes})


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_installs_and_finds(store: ModelStore) -> None:
    """By name, by folder and by card."""
    with store.install("thing") as folder:
        write_card(card(), folder)
    assert store.names() == ["thing"]
    for asked in ("thing", str(store.root / "thing"), str(store.root / "thing" / "card.yaml")):
        found, where = store.find(asked)
        assert found.name == "thing"
        assert where == store.root / "thing"


def _interrupted_install(store: ModelStore) -> None:
    with store.install("thing") as folder:
        write_card(card(summary="half"), folder)
        raise KeyboardInterrupt


def test_a_failed_install_leaves_the_old_model(store: ModelStore) -> None:
    """And nothing of the new one."""
    with store.install("thing") as folder:
        write_card(card(), folder)
    with pytest.raises(KeyboardInterrupt):
        _interrupted_install(store)
    assert store.find("thing")[0].summary == "things"
    assert sorted(path.name for path in store.root.iterdir()) == [".lock", "thing"]


def test_an_install_replaces_the_old_model(store: ModelStore) -> None:
    """Its files do not linger."""
    with store.install("thing") as folder:
        write_card(card(), folder)
        (folder / "old.onnx").touch()
    with store.install("thing") as folder:
        write_card(card(summary="new"), folder)
    assert store.find("thing")[0].summary == "new"
    assert [path.name for path in (store.root / "thing").iterdir()] == ["card.yaml"]


def test_sweeps_up_after_a_killed_install(store: ModelStore) -> None:
    """What another process left half-way is gone after the next install."""
    (store.root / ".partial-abc" / "new").mkdir(parents=True)
    with store.install("thing") as folder:
        write_card(card(), folder)
    assert not (store.root / ".partial-abc").exists()
    assert store.names() == ["thing"]


def test_a_known_model_that_is_not_here(store: ModelStore) -> None:
    """The error says how to get it."""
    with pytest.raises(CardError, match="get it with 'sightwire models pull person-ssdlite'"):
        store.find("person-ssdlite")


def test_a_misspelt_model(store: ModelStore) -> None:
    """The error names the nearest."""
    with pytest.raises(CardError, match="did you mean 'person-ssdlite'"):
        store.find("person-ssdlight")
    with pytest.raises(CardError, match="there is no model 'zzz'; known: efficientnet-lite0"):
        store.find("zzz")


def test_a_path_without_a_card(store: ModelStore, tmp_path: Path) -> None:
    """The path is in the error."""
    with pytest.raises(CardError, match=r"absent\.yaml: no such model card"):
        store.find(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SIGHTWIRE_MODELS": "/a", "STATE_DIRECTORY": "/b"}, "/a"),
        ({"STATE_DIRECTORY": "/var/lib/sightwire:/x"}, "/var/lib/sightwire/models"),
        ({"XDG_DATA_HOME": "/c"}, "/c/sightwire/models"),
        ({"HOME": "/h"}, "/h/.local/share/sightwire/models"),
    ],
)
def test_default_root(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    """Chosen, the service's, the user's."""
    for name in ("SIGHTWIRE_MODELS", "STATE_DIRECTORY", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_root() == Path(expected)
