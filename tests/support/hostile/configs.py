"""Configurations: those of the documentation, changed where it hurts.

Half of them are changed as values (a key by another name, a value of another type, nested for ever) and written as YAML
again, half as text (cut, spliced, bytes flipped, tabs, anchors). Nothing but a refusal with lines may come of it.
"""

from __future__ import annotations

import copy
import functools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from agent.config import load
from agent.errors import ConfigError
from agent.yaml_lines import parse
from tests.support.hostile import Wrong, dice

ROOT = Path(__file__).parents[3]
SECRET = "geheim-7f3a9c"
"""Stands wherever the documentation has a password; no refusal may show it."""

_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"^(\s*)(source|backend): (\S.*?)(?:\s+#.*)?$")
_BREAKS = re.compile("\r\n?|[\n\x85\u2028\u2029]")
"""What ends a line of YAML (1.1, 5.4)."""
_MOST_ERROR = 100_000
"""Letters of a refusal: each mistake of a long file has its line."""


class Configs:
    """See the module."""

    most_s = 20.0
    most_mb = 200.0

    def __init__(self, folder: Path) -> None:
        self._path = folder / "site.yaml"

    def make(self, number: int) -> bytes:
        """The first ones are those that were thought of; then chance."""
        if number < len(THOUGHT_OF):
            return THOUGHT_OF[number]()
        chance = dice("config", number)
        tree = chance.choice(examples())
        if chance.random() < 0.6:
            return written(mutated(tree, chance), chance)
        return spoilt(written(tree, chance), chance)

    def feed(self, data: bytes) -> str:
        """As `sightwire check` reads it."""
        self._path.write_bytes(data)
        try:
            load(self._path)
        except ConfigError as error:
            self._judge(str(error), data)
            return "refused"
        return "accepted"

    def _judge(self, said: str, data: bytes) -> None:
        if SECRET in said:
            raise Wrong(f"the refusal shows a secret: {said}")
        if len(said) > _MOST_ERROR:
            raise Wrong(f"a refusal of {len(said)} letters: {said[:200]}")
        last = len(_BREAKS.findall(data.decode("utf-8", "replace"))) + 1
        for line in said.split("\n"):
            found = re.match(re.escape(str(self._path)) + r":(?:(\d+):| cannot be read: ) *\S", line)
            if not found or not line.isprintable():
                raise Wrong(f"not a line of a refusal: {line[:300]!r}")
            if found[1] and not 1 <= int(found[1]) <= last:
                raise Wrong(f"there is no such line: {line[:300]!r}")


@functools.cache
def examples() -> list[dict[str, Any]]:
    """Every snippet of the documentation as a whole configuration."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
    blocks = [block for text in texts.values() for block in _BLOCK.findall(text)]
    whole = next(tree for block in blocks if "agent" in (tree := _tree(block) or {}))
    found = [whole]
    for block in blocks:
        if tree := _tree(block):
            found.append(_merged(whole, tree))
        else:  # the same key in several forms
            for line in block.splitlines():
                if form := _LINE.match(line):
                    value = yaml.safe_load(form[3])
                    place = {"cameras": {"dock": {"source": value}}, "models": {"people": {"backend": value}}}
                    kept = "cameras" if form[2] == "source" else "models"
                    found.append(_merged(whole, {kept: place[kept]}))
    return [_with_secrets(tree) for tree in found]


def _tree(block: str) -> Any:
    """None: the same key twice, so that the snippet shows forms, and is no part of a file."""
    keys = re.findall(r"^(\w+):", block, re.MULTILINE)
    return parse(block, "a snippet").value if len(keys) == len(set(keys)) else None


def _merged(into: Any, more: Any) -> Any:
    if isinstance(into, dict) and isinstance(more, dict):
        return {**into, **{key: _merged(into.get(key), value) for key, value in more.items()}}
    return copy.deepcopy(more)


def _with_secrets(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: SECRET if key == "password" else _with_secrets(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_with_secrets(value) for value in tree]
    if isinstance(tree, str) and (url := re.match(r"rtsps?://(?!.*@)", tree)):
        return f"{url[0]}cam:{SECRET}@{tree[url.end() :]}"
    return tree


# -- as values --------------------------------------------------------------------------------------------------------


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1 << 31, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**400, 0.0, -0.0, 1e308, 5e-324,
    float("inf"), float("-inf"), float("nan"), "", " ", "a", "\0", "\n", "a\nb: c", "\t", "\x1b[2J", "\u202e",
        "\U0010ffff",
    "\ud7ff", "é" * 300, "x" * 100_000, "../../etc/passwd", "/dev/zero", "%s%n", "{}", "${HOME}", "1s", "-1s", "1e9s",
    "99999999999999999999h", "nan", "inf", "rtsp://", "rtsp://[", "rtsp://h:99999999/",
    "http://\udcff/".encode("utf-8", "replace").decode(),
    "credential:", "credential:../../etc/shadow", "mqtt://h:1/?#", b"\x00\xff", [], {}, [[]], [{}], {"": ""},
    {"type": "fake"},
    {"type": None}, {"type": []}, {"type": "rtsp"}, {1: 2}, {None: None}, {True: 1}, [None] * 1000, _deep(40),
        _deep(150),
)  # fmt: skip


def _places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(place for key, value in inner for place in _places(value, (*at, key)))]


def _at(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def mutated(tree: Any, chance: random.Random) -> Any:
    """A copy of nested mappings and lists, changed in a few places."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        places = [place for place in _places(tree) if place]
        if not places:
            break
        place = chance.choice(places)
        parent, key = _at(tree, place[:-1]), place[-1]
        chance.choice(_VALUES)(tree, parent, key, chance)
    return tree


def _replace(_tree: Any, parent: Any, key: Any, chance: random.Random) -> None:
    parent[key] = chance.choice(ODD)


def _remove(_tree: Any, parent: Any, key: Any, _chance: random.Random) -> None:
    del parent[key]


def _rename(tree: Any, parent: Any, key: Any, chance: random.Random) -> None:
    if not isinstance(parent, dict):
        return
    keys = sorted({str(place[-1]) for place in _places(tree) if place and not isinstance(place[-1], int)})
    new = chance.choice(
        (
            chance.choice(keys),
            _misspelt(str(key), chance),
            chance.choice(["", "on", "~", "1", "a\nb", "\x1b", "é" * 99]),
        )
    )
    parent[new] = parent.pop(key)


def _misspelt(word: str, chance: random.Random) -> str:
    at = chance.randrange(len(word) + 1)
    return word[:at] + chance.choice("aeio_- .") + word[at + chance.randrange(2) :]


def _move(tree: Any, parent: Any, key: Any, chance: random.Random) -> None:
    """A value from elsewhere in its place."""
    parent[key] = copy.deepcopy(_at(tree, chance.choice(_places(tree))))


def _wrap(_tree: Any, parent: Any, key: Any, chance: random.Random) -> None:
    value = parent[key]
    parent[key] = chance.choice(([value], {"type": value}, {str(key): value}, [value] * 50, str(value)))


def _nudge(_tree: Any, parent: Any, key: Any, chance: random.Random) -> None:
    """A number a little or a lot different; a text with something more in it."""
    value = parent[key]
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        parent[key] = chance.choice(ODD)
    elif isinstance(value, str):
        at = chance.randrange(len(value) + 1)
        parent[key] = value[:at] + chance.choice(("\0", "é", " ", "/", "@", ":", "%", "\n", "]", "[")) + value[at:]
    else:
        factor = chance.choice((-1, 0.5, 1000, 1e20, 1e300))
        parent[key] = value * factor if abs(value) < 1e300 else -value  # a whole number may be more than any float


_VALUES: tuple[Callable[[Any, Any, Any, random.Random], None], ...] = (_replace, _remove, _rename, _move, _wrap, _nudge)


class _Dumper(yaml.SafeDumper):
    """The same value twice is written twice, or behind an alias, as chance will have it."""

    aliases = True

    def ignore_aliases(self, data: Any) -> bool:
        return not self.aliases or bool(super().ignore_aliases(data))


class _PlainDumper(_Dumper):
    aliases = False


def written(tree: Any, chance: random.Random) -> bytes:
    """As YAML, in one of its styles."""
    dumper = chance.choice((_Dumper, _PlainDumper))
    flow = chance.choice((True, False, None))
    text = yaml.dump(tree, Dumper=dumper, default_flow_style=flow, allow_unicode=chance.random() < 0.5, sort_keys=False)
    return text.encode("utf-8", "surrogatepass")


# -- as text ----------------------------------------------------------------------------------------------------------

_BITS = (
    b"\0", b"\t", b"\r", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"&a ", b"*a ", b"<<: *a\n",
    b"!!binary ", b"!!python/object:os.system ",
    b"!!int ", b"!!float x ", b"!!timestamp ", b"2024-99-99 ", b"!!set ", b"!!omap ", b"!!pairs ", b"!!str ",
    b"!x!y ", b"%YAML 9.9\n", b"---\n", b"...\n",
    b"? ", b"- ", b": ", b"{", b"}", b"[", b"]", b"'", b'"', b"|\n", b">9\n", b"#", b"@", b"`", b"1:1:1:1 ", b"0x ",
    b"0o9 ", b"1e999 ", b'"\\ud800"', b'"\\x00"', b"~",
)  # fmt: skip


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_BITS) * chance.choice((1, 1, 1, 3)) + data[at:]


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 10))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    begin, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    return chance.choice((data[:end], data[begin:], data[:begin] + data[end:]))


def _lines(data: bytes, chance: random.Random) -> bytes:
    """One of them twice, indented otherwise, with a tab, or somewhere else."""
    lines = data.splitlines(keepends=True) or [b""]
    at = chance.randrange(len(lines))
    line = chance.choice((lines[at], b" " + lines[at], lines[at].lstrip(), b"\t" + lines[at], lines[at] + lines[at]))
    if chance.random() < 0.5:
        lines.insert(chance.randrange(len(lines) + 1), line)
    else:
        lines[at] = line
    return b"".join(lines)


def _anchors(data: bytes, chance: random.Random) -> bytes:
    """A value becomes an anchor, another one its alias."""
    values = list(re.finditer(rb": (?=\S)", data))
    if len(values) < 2:
        return data
    first, second = sorted(chance.sample(values, 2), key=re.Match.start)
    end = data.find(b"\n", second.end())
    return data[: first.end()] + b"&a " + data[first.end() : second.end()] + b"*a" + data[end:]


_TEXTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (_insert, _insert, _flip, _cut, _lines, _anchors)


def spoilt(data: bytes, chance: random.Random) -> bytes:
    """A text, harmed in a few places."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        data = chance.choice(_TEXTS)(data, chance)
    return data


HEAVY = 5
"""So many of those that were thought of, the last ones, take seconds each."""


# -- thought of -------------------------------------------------------------------------------------------------------


def _laughs(levels: int, each: int, fmt: str = "[{}]") -> bytes:
    """A billion laughs: a few lines of aliases of aliases."""
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{at}: &a{at} " + fmt.format(", ".join([f"*a{at - 1}"] * each)) for at in range(1, levels)]
    return ("\n".join(lines) + "\n").encode()


def _merges(levels: int) -> bytes:
    """Likewise with merge keys, which copy."""
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{level}: &a{level} {{<<: [*a{level - 1}, *a{level - 1}]}}" for level in range(1, levels)]
    return ("\n".join(lines) + "\n").encode()


def _site(more: str) -> bytes:
    base = yaml.safe_dump({key: examples()[0][key] for key in ("agent", "models")}, sort_keys=False)
    return f"{base}cameras: {{dock: {{source: x.mp4, models: [people], {more}}}}}\n".encode()


def _secretive(mqtt: str) -> bytes:
    """`mqtt:` so, `S` the secret."""
    return _site("track: people") + f"mqtt: {mqtt}\n".replace("S", SECRET).encode()


THOUGHT_OF: tuple[Callable[[], bytes], ...] = (
    lambda: b"",
    lambda: b"\0" * 1000,
    lambda: b"\xff\xfe" + "agent: {name: a}".encode("utf-16-le"),
    lambda: b"\xef\xbb\xbfagent: {name: a}\n",
    lambda: random.Random(1).randbytes(4096),
    lambda: b"\t" * 1000,
    lambda: b"[" * 100_000,
    lambda: b"{a: " * 20_000,
    lambda: b"- " * 20_000,
    lambda: b"? " * 20_000,
    lambda: b"[], " * 60_000,
    lambda: b"a: &a [*a]\n",
    lambda: b"a: &a {b: *a}\n",
    lambda: b"&a agent: *a\n",
    lambda: b"a: &a {<<: *a}\n",
    lambda: b"<<: 1\n",
    lambda: _laughs(12, 10),
    lambda: _laughs(40, 10),
    lambda: _laughs(8, 10, "{{<<: [{}]}}"),
    lambda: _merges(40),
    lambda: _site(
        f"masks: &m [{', '.join(['[[0, 0], [1, 0], [1, 1]]'] * 100)}], "
        f"zones: {{{', '.join(f'z{i}: {{polygon: *m}}' for i in range(100))}}}"
    ),
    lambda: b"p: &p [0, x]\nq: &q [" + b", ".join([b"*p"] * 300) + b"]\nr: &r [" + b", ".join([b"*q"] * 300) + b"]\n"
    + _site("masks: *r"),
    lambda: b"a: " + b"9" * 100_000 + b"\n",
    lambda: b"a: 0x" + b"f" * 100_000 + b"\n",
    lambda: b'a: "' + b"\\U0010ffff" * 10_000 + b'"\n',
    lambda: b'"\\ud800": 1\n',
    lambda: b'agent: {name: "\\ud800"}\n',
    *(lambda text=text: _secretive(text) for text in (  # type: ignore[misc]
        "{url: 'mqtt://h', username: a, password:S}", "{url: 'mqtt://h', username: a, password S}",
        "{url: 'mqtt://h', password=S: 1}",
        "{url: 'mqtt://h', username: a, password: *S}", "{url: 'mqtt://h', username: a, password: !S x}",
        "{url: 'mqtt://h', password: !!S x}",
        "{url: 'mqtt://h', username: a, password: &S}", "{url: 'mqtt://h', username: a, password: @S}",
        "{url: 'mqtt://h', password: %S}",
        "{url: 'mqtt://h', username: a, password: [S]}", "{url: 'mqtt://h', username: a, password: {S: S}}",
        "{url: 'mqtt://h', headers: {Authorization:S}}",
        "{url: 'mqtt://h', headers: {A: [S]}}", "{url: 'mqtt://a:S@h'}", "{url: 'mqtt://a:S@h:x'}",
        "{url: 'ws://h/?token=S'}", "{url: 'x://a:S@h'}",
        "{url: 'mqtt://h', proxy: 'http://a:S@h'}", "{url: 'mqtt://h', proxy: {url: 'http://h', password: S}}",
        "{url: 'mqtt://h', username: a, password: 'S', password: S}",
        "{url: 'mqtt://h', password: !!int S}", "{url: 'mqtt://h', password: !!timestamp S}",
        "{url: 'mqtt://h', password: |S\n x}", "mqtt://a:S@h",
    )),
    *(lambda source=source: _site(f"source: {source.replace('S', SECRET)}").replace(b"source: x.mp4, ",
        b"") for source in (  # type: ignore[misc]
        "'rtsp://a:S@h:99999999/'", "'rtsp://a:S@'", "'x://a:S@h'", "{type: rtsp, url: ['rtsp://a:S@h']}",
        "{type: snapshot, url: 'rtsp://a:S@h'}",
        "{type: opencv, url: 'a:S@h'}", "{type: rtsp, url: 'rtsp://h', password: S}",
        "{type: rtsp, url: 'rtsp://h', username: S, pasword: S}",
        "{type: 'rtsp://a:S@h'}", "['rtsp://a:S@h']", "{'rtsp://a:S@h': 1}", "'rtspsrc location=rtsp://a:S@h ! x'",
        "{type: gstreamer, pipeline: 'rtspsrc user-pw=S'}",
    )),
    lambda: _site('"\\ud800": 1'),
    lambda: _site('"\\e[2J\\n": 1'),
    lambda: _site('"a\\u2028b": 1'),
    lambda: _site("rules: {x: {type: \"a\\nb\"}}"),
    lambda: b"a: 2024-99-99\n",
    lambda: b"a: !!binary '%%%'\n",
    lambda: b"a: !!python/object/apply:os.system [true]\n",
    lambda: b"? [1, 2]\n: 3\n",
    lambda: b"? {a: 1}\n: 3\n",
    lambda: b"---\na: 1\n---\nb: 2\n",
    lambda: b"a: 'never closed\n" * 3,
    lambda: b"a: >" + b"\n x" * 50_000 + b"\n",
    lambda: b"#" * 2_000_000 + b"\n",
    lambda: b"a: 1\n" + b"\n" * 500_000 + b"a: 2\n",
    # As large as is let in, which takes seconds:
    lambda: b"a: [" + b"1,\n" * 60_000 + b"]",
    lambda: _site("masks: [" + "[[0, x], [2, 0], [1, 1]], " * 4_000 + "]"),
    lambda: _site("masks: [" + "[], " * 30_000 + "]"),
    lambda: b"".join(b"key%d: 1\n" % i for i in range(15_000)),
    lambda: b"a: " + b"1:" * 50_000 + b"1\n",
)  # fmt: skip
