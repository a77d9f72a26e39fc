"""Other versions of this tree's wheel, for upgrades."""

from __future__ import annotations

import zipfile
from pathlib import Path


def version_of(wheel: Path, version: str, into: Path, *, appended: tuple[str, str] = ("", "")) -> Path:
    """The same wheel under another version; `appended`: a file of it, and what is added at its end."""
    name, before = wheel.name.split("-")[:2]
    target = into / wheel.name.replace(f"{name}-{before}-", f"{name}-{version}-")
    info = f"{name}-{before}.dist-info/"
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w") as new:
        names = []
        for entry in old.namelist():
            if entry == f"{info}RECORD":
                continue
            text = old.read(entry)
            if entry == "agent/__init__.py":
                text = text.replace(f'"{before}"'.encode(), f'"{version}"'.encode())
            elif entry == f"{info}METADATA":
                text = text.replace(f"\nVersion: {before}\n".encode(), f"\nVersion: {version}\n".encode())
            if entry == appended[0]:
                text += appended[1].encode()
            names.append(entry.replace(info, f"{name}-{version}.dist-info/"))
            new.writestr(names[-1], text)
        names.append(f"{name}-{version}.dist-info/RECORD")
        new.writestr(names[-1], "".join(f"{entry},,\n" for entry in names))
    return target
