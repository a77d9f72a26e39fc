"""The snippets in docs/mqtt.md are settings that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from agent.sinks.mqtt import Config

DOCUMENT = Path(__file__).parents[2] / "docs" / "mqtt.md"
SNIPPETS = re.findall(r"^```yaml\n(mqtt:.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_there_are_snippets() -> None:
    """For the clouds, for a proxy, for an old broker."""
    assert len(SNIPPETS) >= 4


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_is_a_configuration(snippet: str) -> None:
    """As it stands, less the files."""
    Config.model_validate(yaml.safe_load(snippet)["mqtt"])
