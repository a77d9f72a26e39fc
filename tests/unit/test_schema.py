"""Schemas of what goes over the wire: complete, current, and right by the rules of those who made the formats."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from typer.testing import CliRunner

from agent import messages
from agent.commands._app import app
from agent.remote import payloads
from agent.remote.payloads import read
from agent.schema.asyncapi import document
from agent.schema.examples import EXAMPLES
from agent.schema.files import ASYNCAPI, files
from agent.schema.json_schema import schemas
from agent.schema.topics import PAYLOADS, TOPICS
from tests.support.asyncapi_specs import official_schema

FOLDER = Path(__file__).parents[2] / "docs" / "schema"
SCHEMAS = schemas()
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
EVERY_EXAMPLE = [(name, case) for name, cases in EXAMPLES.items() for case in cases]


def parsed(name: str, text: str) -> Any:
    return yaml.load(text, Loader) if name.endswith(".yaml") else json.loads(text)


def test_the_files_in_the_documentation_are_current() -> None:
    """Mended by `sightwire schema --write docs/schema`."""
    assert {path.name for path in FOLDER.iterdir()} == set(files())
    for name, text in files().items():
        assert parsed(name, (FOLDER / name).read_text(encoding="utf-8")) == parsed(name, text), name


def test_every_payload_with_a_schema_of_its_own_is_in_it_and_has_topics() -> None:
    known = {
        kind.model_fields["schema_"].default
        for module in (messages, payloads)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, messages.Payload) and "schema_" in kind.model_fields
    }
    assert {str(name) for name in known} - {"PydanticUndefined"} == {f"sightwire.{name}/1" for name in PAYLOADS}
    assert {topic.payload for topic in TOPICS} - {None} == set(PAYLOADS)


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_schema_is_right_by_json_schemas_own(name) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize(("name", "case"), EVERY_EXAMPLE)
def test_examples_are_payloads_by_the_schema_and_by_the_model_and_say_nothing_that_is_unknown(name, case) -> None:
    example = EXAMPLES[name][case]
    Draft202012Validator(SCHEMAS[name]).validate(example)
    if name == "command":
        assert read(json.dumps(example).encode()).command
    else:
        payload = PAYLOADS[name].model_validate(example)
        assert not payload.model_extra
        assert json.loads(payload.model_dump_json(by_alias=True, exclude_unset=True)) == example


@pytest.mark.parametrize("name", sorted(set(PAYLOADS) - {"command"}))
def test_a_payload_without_a_field_that_it_must_have_is_refused_and_one_with_an_unknown_field_is_not(name) -> None:
    schema = Draft202012Validator(SCHEMAS[name])
    example = next(iter(EXAMPLES[name].values()))
    assert schema.is_valid({**example, "added_later": {"a": 1}})
    for field in SCHEMAS[name]["required"]:
        assert not schema.is_valid({key: value for key, value in example.items() if key != field}), field


def test_the_schema_of_commands_takes_what_the_agent_takes() -> None:
    schema = Draft202012Validator(SCHEMAS["command"])
    odd: list[Any] = [None, True, 0, 1, -1, 0.5, "", "x", "x" * 101, "a\nb", [], {}]
    for example in EXAMPLES["command"].values():
        for key in (*example, "id", "label", "unknown"):
            for value in odd:
                changed = {**example, key: value}
                taken = read(json.dumps(changed).encode()).command is not None
                assert schema.is_valid(changed) == taken, changed


def test_the_document_is_asyncapi_by_the_official_schema_and_a_broken_one_is_not() -> None:
    official = Draft7Validator(official_schema("3.0.0"))
    good = parsed(ASYNCAPI, files()[ASYNCAPI])
    official.validate(good)
    for place, value in (
        (("operations", "sendStatus", "action"), "say"),
        (("channels", "status", "adress"), "status"),
        (("components", "schemas", "Size", "type"), "objekt"),
        (("info", "title"), None),
    ):
        bad = copy.deepcopy(good)
        inner = bad
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        assert not official.is_valid(bad), place


def test_every_reference_in_the_document_leads_somewhere_and_each_topic_has_one_channel() -> None:
    whole = document()

    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for inner in part for found in references(inner)]
        if not isinstance(part, dict):
            return []
        return [part[key] for key in part if key == "$ref"] + references(list(part.values()))

    found = references(whole)
    assert len(found) > 80
    for reference in found:
        inner: Any = whole
        for key in reference.removeprefix("#/").split("/"):
            inner = inner[key]
    assert len(whole["channels"]) == len({channel["address"] for channel in whole["channels"].values()}) == len(TOPICS)


def test_the_command_prints_a_schema_the_document_or_what_there_is(tmp_path: Path) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["schema", *arguments], catch_exceptions=False)
        assert done.exit_code == code
        return done.output

    assert json.loads(said("event")) == SCHEMAS["event"]
    assert parsed(ASYNCAPI, said("--asyncapi")) == document()
    assert "{camera}/{use}/detections" in said()
    assert "did you mean 'event'?" in said("evnt", code=2)
    said("--write", str(tmp_path / "made"))
    assert {path.name for path in (tmp_path / "made").iterdir()} == set(files())
    (tmp_path / "file").touch()
    assert "cannot be written" in said("--write", str(tmp_path / "file"), code=1)
