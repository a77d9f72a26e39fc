"""Words of others, cameras' and files', on their way into a line of ours."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what would change a terminal, or begin a line, as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """The same, with line breaks as spaces."""
    return printable(" ".join(text.split()))
