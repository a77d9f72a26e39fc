"""What `watch` writes: pure functions of what a broker delivered."""

from __future__ import annotations

import io
import json
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from agent.commands._board import Board, Subject, clean, decode, draw, has_objects, line, summary
from agent.commands._show import show
from agent.commands.watch import watch
from agent.subscriber import Heard

SECOND_NS = 1_000_000_000


def boxes(*labels_and_scores: tuple[str, float]) -> dict[str, Any]:
    """Make the content of a detections message."""
    return {"detections": [{"label": label, "score": score} for label, score in labels_and_scores]}


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("detections", boxes(("person", 0.7), ("dog", 0.55), ("person", 0.914)), "person ×2 0.91, dog 0.55"),
        ("detections", boxes(), "nothing"),
        ("detections", boxes(*((c, 0.5) for c in "abcdef")), "a 0.50, b 0.50, c 0.50, d 0.50 and 2 more"),
        ("classification", {"classes": [{"label": "mountain bike", "score": 0.62}]}, "mountain bike 0.62"),
        ("classification", {"classes": []}, "nothing"),
        ("status", {"state": "online", "version": "0.1.0"}, "online 0.1.0"),
        ("status", {"state": "lost", "reason": "no route to host"}, "lost no route to host"),
        ("status", {"state": "online", "engines": {"p": {"backend": "openvino"}}}, "online"),
        (
            "status",
            {
                "state": "online",
                "engines": {"p": {"backend": "openvino", "next": "tensorrt: building since 08:12 UTC"}},
            },
            "online, p: openvino (next tensorrt: building since 08:12 UTC)",
        ),
        (
            "status",
            {"engines": {"p": {"backend": "openvino", "instead_of": "tensorrt", "because": "no INT8"}}},
            "?, p: openvino instead of tensorrt (no INT8)",
        ),
        ("metrics", {"rss_mb": 181.4, "cpu_s": 12.3}, "181 MB, 12.3 s of CPU"),
        (
            "events",
            {"rule": "gate", "phase": "end", "label": "person", "score": 0.91, "track": 17, "reason": "left"},
            "gate end: person 0.91 #17, left",
        ),
        (
            "events",
            {"rule": "door", "phase": "moment", "label": "dog", "track": 3, "data": {"direction": "in"}},
            "door moment: dog #3, in",
        ),
        ("events", {"kind": "gap", "phase": "moment", "data": {"reason": "keep"}}, "gap moment: keep"),
        (
            "counts",
            {
                "labels": {"person": 2},
                "zones": {"gate": {"person": 1}},
                "lines": {"door": {"in": 3, "out": 1}},
                "rules": {"somebody": True, "nobody": False},
            },
            "person 2; gate: person 1; door: in 3, out 1; somebody",
        ),
        ("counts", {}, "nothing"),
        ("embedding", {}, "embedding"),
    ],
)
def test_a_message_in_a_few_words(kind: str, data: dict[str, Any], expected: str) -> None:
    """Each kind says what matters of it."""
    assert summary(kind, data) == expected


WORDS = st.sampled_from(["", "label", "score", "instead_of", "next", "\x1b[2J", "[bold]", "犬", "openvino"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)


FIELDS = ("rules", "label", "labels", "zones", "lines", "data", "track", "reason", "score", "rule", "phase")


@given(
    st.sampled_from(["detections", "classification", "status", "metrics", "events", "counts", "x"]),
    st.dictionaries(
        st.sampled_from([*FIELDS, "detections", "classes", "state", "age_ms", "rss_mb", "kind", "engines"]), JSON
    ),
)
def test_no_payload_of_a_stranger_breaks_it(kind: str, data: dict[str, Any]) -> None:
    """Anybody can publish anything on our topics."""
    subject = Subject("a", "b", "c", kind)
    assert "\x1b" not in line(subject, data, 0)
    has_objects(kind, data)
    board = Board("sightwire")
    for topic in ("a/status", "a/b/status", f"a/b/c/{kind}"):
        board.take(Heard(f"sightwire/{topic}", json.dumps(data).encode(), 0))
    Console(file=io.StringIO()).print(draw(board, "mqtt://x", "", 0))


def test_control_characters_never_reach_the_terminal() -> None:
    """A label cannot clear the screen."""
    assert "\x1b" not in clean("\x1b[2Jperson\n")
    assert clean("Straßenhund 🐕") == "Straßenhund 🐕"


def test_what_is_no_json_object_is_empty() -> None:
    """A snapshot's JPEG, for one."""
    assert decode(b"\xff\xd8\xff") == {}
    assert decode(b"[1]") == {}


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("sightwire/gate/status", Subject("gate", "", "", "status")),
        ("sightwire/gate/dock/status", Subject("gate", "dock", "", "status")),
        ("sightwire/gate/dock/people/detections", Subject("gate", "dock", "people", "detections")),
        ("other/gate/status", None),
        ("sightwire/gate", None),
    ],
)
def test_a_topic_says_what_it_is_about(topic: str, expected: Subject | None) -> None:
    """The topic layout of the contract."""
    assert Subject.of(topic, "sightwire") == expected


def test_prefixes_may_have_several_parts() -> None:
    """`site/3/sightwire` is a prefix."""
    assert Subject.of("site/3/gate/status", "site/3") == Subject("gate", "", "", "status")


def test_rate_and_age_are_those_of_the_last_moments() -> None:
    """Thirty a second, then silence."""
    board = Board("p")
    for n in range(90):
        payload = json.dumps({"age_ms": 40 + n % 3, **boxes(("person", 0.9))}).encode()
        board.take(Heard("p/a/b/c/detections", payload, n * SECOND_NS // 30))
    (row,) = board.rows.values()
    assert row.rate(3 * SECOND_NS) == pytest.approx(30, abs=0.1)
    assert row.age_ms(3 * SECOND_NS) == 41
    assert row.rate(9 * SECOND_NS) == 0
    assert row.age_ms(9 * SECOND_NS) is None


def test_the_dashboard_names_everything_once() -> None:
    """Agent, cameras with and without results, words, connection."""
    board = Board("p")
    for topic, data in {
        "p/gate/status": {"state": "online", "version": "0.1.0", "engines": {"people": {"backend": "openvino"}}},
        "p/gate/dock/status": {"state": "streaming"},
        "p/gate/yard/status": {"state": "lost", "reason": "no route to host"},
        "p/gate/dock/people/detections": boxes(("person", 0.91)),
        "p/gate/park/events": {"rule": "yard-zone", "phase": "start", "label": "dog", "track": 4},
    }.items():
        board.take(Heard(topic, json.dumps(data).encode(), 0))
    out = io.StringIO()
    Console(file=out, width=100).print(draw(board, "mqtt://h", "MQTT 5", 0))
    for words in (
        "gate online",
        "0.1.0",
        "people: openvino",
        "dock",
        "person 0.91",
        "yard lost",
        "no route",
        "MQTT 5",
        "yard-zone start: dog #4",
    ):
        assert out.getvalue().count(words) == 1, words


def test_an_offline_agent_s_cameras_are_offline() -> None:
    """Camera status is only good while the agent is there."""
    board = Board("p")
    board.take(Heard("p/gate/dock/status", b'{"state":"streaming"}', 0))
    board.take(Heard("p/gate/status", b'{"state":"offline"}', 0))
    assert board.camera_state("gate", "dock") == "offline"


def test_without_a_broker_it_ends_in_time_and_says_why() -> None:
    """`--seconds` holds whatever the broker does; the exit status is 1."""
    app = Typer()
    app.command()(watch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{taken.getsockname()[1]}"
        run = CliRunner().invoke(app, [url, "--seconds", "0.3"])
    assert run.exit_code == 1
    assert "connection refused" in run.stderr


def test_a_url_with_a_password_is_refused_without_repeating_it() -> None:
    """Credentials do not end up in a terminal's scrollback."""
    app = Typer()
    app.command()(watch)
    run = CliRunner().invoke(app, ["mqtt://me:hush@host"])
    assert run.exit_code == 2
    assert "username" in run.stderr
    assert "hush" not in run.output + run.stderr


def test_help_has_an_example() -> None:
    """As every command's does."""
    app = Typer()
    app.command()(watch)
    assert "Example: sightwire watch" in CliRunner().invoke(app, ["--help"]).stdout


def test_stop_ends_it_at_once() -> None:
    """The demo stops it with its own event."""
    stop = threading.Event()
    stop.set()
    seen = show("mqtt://127.0.0.1:1", stop=stop, console=Console(file=io.StringIO()))
    assert seen.messages == 0
    assert seen.first_detection_ns is None
