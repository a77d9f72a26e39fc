"""Commands and replies as they go over the wire.

What a command does not know is a mistake in it, never ignored: a `labl` that was meant as `label` would otherwise set
the threshold of all labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AwareDatetime, ConfigDict, Field, StrictInt, StrictStr, TypeAdapter, ValidationError
from pydantic_core import from_json

from agent.messages import Payload
from agent.remote.settings import Name
from agent.values import Score

Id = Annotated[StrictStr, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$")] | Annotated[StrictInt, Field(ge=0, lt=2**63)]
Text = Annotated[str, Field(min_length=1, max_length=100)]

KNOWN: tuple[Name, ...] = get_args(Name)
MOST_BYTES = 16 * 1024
"""Of a command; the largest that makes sense has some three hundred."""


class CommandPayload(Payload):
    """Topics `command` and `<camera>/command`: something is asked for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)

    schema_: Literal["sightwire.command/1"] = Field(default="sightwire.command/1", alias="schema")
    id: Id | None = None
    """Which request it is, for clients without correlation data: the reply has it too, and the same one acts once."""
    expires_at: AwareDatetime | None = None
    """Not to be obeyed later than this, RFC 3339 with an offset; MQTT 5 has message expiry for it."""
    camera: Text | None = None
    """On topic `command`; on `<camera>/command` it may be left out."""


class SnapshotCommand(CommandPayload):
    """Publish the next picture of a camera, where its `snapshots:` allow that."""

    command: Literal["snapshot"]


class SwitchCommand(CommandPayload):
    """Disable a camera (nothing looks at it, its connection is closed), or enable it again."""

    command: Literal["enable", "disable"]


class SetThresholdCommand(CommandPayload):
    """Report what a model finds on a camera from another score on, until the file says another or the process ends."""

    command: Literal["set_threshold"]
    use: Text
    label: Text | None = None
    """Only this one; null or absent: all."""
    value: Score


class ReloadCommand(CommandPayload):
    """Read the configuration again and, if it is right, start with it."""

    command: Literal["reload"]


AnyCommand = SnapshotCommand | SwitchCommand | SetThresholdCommand | ReloadCommand


class Fault(Payload):
    """Why a command was not obeyed."""

    code: str
    """`malformed`, `unknown_command`, `not_allowed`, `busy`, ...: docs/commands.md has them all."""
    message: str


class ReplyPayload(Payload):
    """The request's response topic, else topic `reply` or `<camera>/reply`: what became of a command."""

    schema_: Literal["sightwire.reply/1"] = Field(default="sightwire.reply/1", alias="schema")
    agent: str
    id: str | int | None
    """The request's, if it had a valid one."""
    command: str | None
    """Null where it could not be read."""
    camera: str | None
    ok: bool
    error: Fault | None
    result: dict[str, Any]
    """What holds now; empty where it was not obeyed."""


def fault(code: str, message: str) -> Fault:
    """In one line."""
    return Fault.model_construct(code=code, message=message)


@dataclass(frozen=True)
class Asked:
    """A command as far as it could be read: `command`, or the fault in it."""

    id: str | int | None = None
    name: str | None = None
    command: AnyCommand | None = None
    fault: Fault | None = None


_ANY: TypeAdapter[AnyCommand] = TypeAdapter(Annotated[AnyCommand, Field(discriminator="command")])
_ID: TypeAdapter[str | int] = TypeAdapter(Id)


def read(payload: bytes) -> Asked:
    """Read a command; whatever it is, the answer is an Asked."""
    if len(payload) > MOST_BYTES:
        return Asked(fault=fault("too_large", f"{len(payload)} bytes; a command has at most {MOST_BYTES}"))
    try:
        document = from_json(payload, allow_inf_nan=False)
    except ValueError as error:  # deep nesting and endless numbers too: the parser has limits
        return Asked(fault=fault("malformed", f"no JSON: {error}"))
    if not isinstance(document, dict):
        return Asked(fault=fault("malformed", 'expected an object, e.g. {"command": "enable", "camera": "dock"}'))
    number, name = _id_of(document), document.get("command")
    if not isinstance(name, str) or name not in KNOWN:
        named = "none is named" if name is None else f"{str(name)[:40]!r} is none"
        return Asked(number, fault=fault("unknown_command", f"{named}; known: {', '.join(KNOWN)}"))
    try:
        return Asked(number, name, _ANY.validate_json(payload, strict=True))
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False, include_context=False)
        return Asked(number, name, fault=fault("malformed", "; ".join(map(_explain, mistakes[:5]))))


def _id_of(document: dict[str, Any]) -> str | int | None:
    try:
        return _ID.validate_python(document.get("id"))
    except ValidationError:
        return None


def _explain(mistake: Any) -> str:
    """`value: input should be less than 1`."""
    place = ".".join(str(part)[:40] for part in mistake["loc"][1:2])
    if mistake["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    message = mistake["msg"]
    return f"{place}: {message[:1].lower()}{message[1:]}"
