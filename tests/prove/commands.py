"""`scripts/prove commands [COUNT]`: an agent gets so many commands, most of them wrong, and is compared with a model.

Malformed, unauthorised, retained, repeated, late, to wrong cameras, with response topics that are not the asker's:
10,000 of them over a real broker. Each is answered as the model says, or not at all; none acts twice or wrongly.
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.remote import answers
from tests.prove.record import section, table
from tests.support.asking import BASE, CAMERAS, Asker, running
from tests.support.broker import Mosquitto

ALLOWED = ["enable", "disable", "set_threshold"]
KNOWN = ["snapshot", "enable", "disable", "set_threshold", "reload"]
LABELS = ["red", "green", "blue"]
KEYS = {"schema", "id", "expires_at", "camera", "command"}
PAST, FUTURE = "2020-01-01T00:00:00Z", "2120-01-01T00:00:00+02:00"
BATCH = 25
"""Commands under way: fewer than the agent lets wait."""
BAD_TOPICS = [f"{BASE}/status", f"{BASE}/command", f"{BASE}/dock/events", "sightwire/other/command", "$x/y", "x" * 257]


@dataclass
class Sent:
    """One command as it is published."""

    topic: str
    payload: bytes
    response: str | None
    correlation: bytes | None
    retain: bool = False


@dataclass
class Model:
    """What an agent should have done."""

    enabled: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(CAMERAS, True))
    thresholds: dict[str, list[float]] = field(default_factory=lambda: {name: [0.0] * 3 for name in CAMERAS})
    memory: OrderedDict[tuple[Any, ...], tuple[tuple[str, bytes], dict[str, Any]]] = field(default_factory=OrderedDict)
    outcomes: Counter[str] = field(default_factory=Counter)

    def expect(self, sent: Sent) -> dict[str, Any] | None:
        """What the reply says (`ok` and `code`, or the reply that was given before); None: there is none."""
        if sent.retain:
            self.outcomes["retained"] += 1
            return None
        camera = sent.topic.rpartition("/")[0] or None
        unfit = sent.response in BAD_TOPICS
        named = camera in ("dock", "gate", "dok")  # the others are no names of cameras
        default = f"{BASE}/{camera}/reply" if named else f"{BASE}/reply"
        reply_to = default if sent.response is None or unfit else sent.response
        document = _document(sent.payload)
        number = _id_of(document)
        mark = None if sent.correlation is None else ("c", sent.correlation)
        if mark is None and number is not None:
            mark = ("i", type(number), number)
        if mark is not None:
            known = self.memory.get((reply_to, mark))
            if known is not None:
                same = known[0] == (sent.topic, sent.payload)
                self.outcomes["repeated" if same else "id_reused"] += 1
                return known[1] if same else {"ok": False, "code": "id_reused"}
        code, kept, act = self._act(sent, camera, document, unfit)
        if act is not None:
            act()
        self.outcomes[code or "obeyed"] += 1
        expected_reply = {"ok": code is None, "code": code, "id": number}
        if mark is not None and kept:
            self.memory[(reply_to, mark)] = (sent.topic, sent.payload), expected_reply
            while len(self.memory) > answers.MOST:
                self.memory.popitem(last=False)
        return expected_reply

    def _act(self, sent: Sent, camera: str | None, said: Any, unfit: bool) -> tuple[str | None, bool, Any]:
        """The fault's code, whether the answer is remembered, and what changes."""
        wrong = "malformed" if unfit else _fault(sent.payload, said)
        if wrong is None and camera and said.get("camera") and said["camera"] != camera:
            wrong = "malformed"
        if wrong is None and said["command"] not in ALLOWED:
            wrong = "not_allowed"
        if wrong is None and said.get("expires_at") == PAST:
            wrong = "expired"
        if wrong is not None:
            return wrong, False, None
        target = camera or said.get("camera")
        if target is None:
            return "malformed", True, None
        if target not in self.enabled:
            return "no_such_camera", True, None
        if said["command"] == "set_threshold":
            label = said.get("label")
            if said["use"] != "colours":
                return "no_such_use", True, None
            if label is not None and label not in LABELS:
                return "no_such_label", True, None
            return None, True, lambda: self._set(target, label, said["value"])
        return None, True, lambda: self.enabled.update({target: said["command"] == "enable"})

    def _set(self, camera: str, label: str | None, value: float) -> None:
        for index, name in enumerate(LABELS):
            if label in (None, name):
                self.thresholds[camera][index] = value


def _document(payload: bytes) -> Any:
    """The payload as JSON, read by another parser than the agent's; None: it is none, or too large."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        if len(payload) > 16 * 1024:
            return None
        text = payload.decode()
        document = json.loads(text, parse_constant=refuse)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return document


def _id_of(document: Any) -> str | int | None:
    number = document.get("id") if isinstance(document, dict) else None
    if isinstance(number, str):
        return number if re.fullmatch(r"[^\x00-\x1f\x7f]{1,64}", number) else None
    return number if type(number) is int and 0 <= number < 2**63 else None


def _fault(payload: bytes, said: Any) -> str | None:
    if len(payload) > 16 * 1024:
        return "too_large"
    if not isinstance(said, dict):
        return "malformed"
    name = said.get("command")
    if not isinstance(name, str) or name not in KNOWN:
        return "unknown_command"
    keys = KEYS | ({"use", "label", "value"} if name == "set_threshold" else set())
    right = [
        set(said) <= keys,
        said.get("schema", "sightwire.command/1") == "sightwire.command/1",
        said.get("id") is None or _id_of(said) is not None,
        said.get("expires_at") in (None, PAST, FUTURE),
        _is_text(said.get("camera", None), optional=True),
    ]
    if name == "set_threshold":
        value = said.get("value")
        right += [_is_text(said.get("use")), _is_text(said.get("label"), optional=True)]
        right += [type(value) is float and 0 < value < 1]
    return None if all(right) else "malformed"


def _is_text(value: Any, optional: bool = False) -> bool:
    return optional if value is None else isinstance(value, str) and 1 <= len(value) <= 100


class Attacker:
    """Makes up commands: valid ones, and what becomes of them when somebody is careless or means ill."""

    def __init__(self, seed: int, responses: list[str]) -> None:
        self._dice = random.Random(seed)
        self._responses = responses
        self._sent: list[Sent] = []

    def next(self) -> Sent:
        """The next one; each fifth was sent before."""
        dice = self._dice
        if self._sent and dice.random() < 0.2:
            return dice.choice(self._sent[-200:])
        document = self._valid()
        payload = json.dumps(document).encode()
        if "expires_at" not in document and dice.random() < 0.4:
            payload = self._spoil(document)
        camera = dice.choice([None, None, "dock", "dock", "gate", "gate", dice.choice(["dok", "events", "a b"])])
        made = Sent(f"{camera}/command" if camera else "command", payload, self._response(), self._correlation())
        made.retain = dice.random() < 0.03
        self._sent.append(made)
        return made

    def _valid(self) -> dict[str, Any]:
        dice = self._dice
        document: dict[str, Any] = {"command": dice.choice([*KNOWN, *ALLOWED, *ALLOWED])}
        if dice.random() < 0.3:
            document["camera"] = dice.choice([*CAMERAS, *CAMERAS, "dok"])
        if dice.random() < 0.6:
            document["id"] = dice.choice([dice.randrange(10**6), f"n{dice.randrange(10**6)}", dice.randrange(100)])
        if dice.random() < 0.1:
            document["expires_at"] = dice.choice([PAST, FUTURE])
        if document["command"] == "set_threshold":
            document |= {
                "use": dice.choice(["colours", "colours", "colours", "colour"]),
                "value": round(dice.uniform(0.01, 0.99), 3),
            }
            if dice.random() < 0.5:
                document["label"] = dice.choice([*LABELS, "pink"])
        return document

    def _spoil(self, document: dict[str, Any]) -> bytes:
        dice = self._dice
        if dice.random() < 0.5:
            key = dice.choice([*document, "schema", "label", "more", "camera", "id"])
            document[key] = dice.choice(
                [None, True, 0, -1, 1.5, 2**64, "", "x" * 101, "\x00", [], {}, [[]] * 9, "sightwire.reply/1", "é" * 60]
            )
            return json.dumps(document, ensure_ascii=dice.random() < 0.5).encode()
        payload = bytearray(json.dumps(document).encode())
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(payload))
            how = dice.randrange(5)
            if how == 0:
                payload[at] = dice.randrange(256)
            elif how == 1:
                del payload[at : at + dice.randrange(1, 8)]
            elif how == 2:
                payload[at:at] = payload[: dice.randrange(20)]
            elif how == 3:
                payload[at:at] = dice.choice([b"[" * 5000, b'{"a":' * 500, b" " * 20_000, b"\xff", b"NaN", b"9" * 5000])
            else:
                payload[at:at] = dice.choice([b"\\ud800", b'"', b"}", b",", b"\x00", b"e999"])
            if not payload:
                break
        return bytes(payload)

    def _response(self) -> str | None:
        return self._dice.choice([*self._responses * 4, None, None, self._dice.choice(BAD_TOPICS)])

    def _correlation(self) -> bytes | None:
        dice = self._dice
        return dice.choice([None, None, None, dice.randbytes(8), dice.randbytes(8), bytes([dice.randrange(64)])])


def attack(count: int, folder: Path, seed: int = 1) -> tuple[Counter[str], float]:
    """Send them; asserts that the agent did what the model says. What became of them, and seconds."""
    model, began_s = Model(), time.monotonic()
    commands = {"allow": ALLOWED, "per_second": 1000}
    with (
        Mosquitto(folder) as broker,
        running(folder, broker.url, commands=commands) as agent,
        Asker(broker.port, every=True) as asker,
    ):
        attacker = Attacker(seed, ["clients/one", "clients/two"])
        expected: list[dict[str, Any]] = []
        said: list[Sent] = []
        rate_s = time.monotonic()
        for number in range(count):
            sent = attacker.next()
            answer = model.expect(sent)
            camera = sent.topic.rpartition("/")[0] or None
            about: dict[str, Any] = {"correlation": sent.correlation, "response": sent.response}
            asker.send(sent.payload, camera, retain=sent.retain, wait=False, **about)
            if answer is not None:
                expected.append(answer)
                said.append(sent)
            if number % BATCH == 0:
                asker.wait(len(expected))
                ahead_s = number / 900 - (time.monotonic() - rate_s)  # the agent takes a thousand a second
                if ahead_s > 0 and number > 4000:
                    time.sleep(ahead_s)
        replies = asker.wait(len(expected))
        assert len(replies) == len(expected)
        for sent, wanted, (correlation, reply) in zip(said, expected, replies, strict=True):
            code = reply["error"]["code"] if reply["error"] else None
            assert (reply["ok"], code) == (wanted["ok"], wanted["code"]), (sent, wanted, reply)
            assert correlation == sent.correlation, (sent, reply)
            assert "id" not in wanted or reply["id"] == wanted["id"], (sent, reply)
        cameras = agent.service.cameras
        assert {name: camera.enabled for name, camera in cameras.items()} == model.enabled
        for name, camera in cameras.items():
            holds = camera.uses[0].thresholds.tolist()
            assert all(abs(a - b) < 1e-6 for a, b in zip(holds, model.thresholds[name], strict=True)), (name, holds)
        counts = agent.service.metrics().commands
        assert counts["obeyed"] == model.outcomes["obeyed"]
        assert counts["repeated"] == model.outcomes["repeated"]
        assert counts["busy"] == counts["dropped"] == counts["waiting"] == 0
        assert agent.mqtt()["ignored_commands"]["retained"] == model.outcomes["retained"]
        assert agent.mqtt()["reconnects"] == 0
    return model.outcomes, time.monotonic() - began_s


def main() -> None:
    """Attack, and write down how it went."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="commands-") as folder:
        outcomes, seconds = attack(count, Path(folder))
    rows: list[tuple[object, ...]] = [(what, number) for what, number in outcomes.most_common()]
    body = (
        f"{count} commands over mosquitto in {seconds:.0f} s, most of them wrong. Each answer is what a model says,\n"
        "and so is the agent's state after all; none was answered or obeyed twice.\n\n"
        + table(("outcome", "commands"), rows)
    )
    section("commands", "Commands, right and wrong", f"scripts/prove commands {count}", body)
    print(body)


if __name__ == "__main__":
    main()
