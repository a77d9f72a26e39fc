"""Which steps make up an installation, an upgrade, a way back and an end."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.installing import layout, needs, systemd
from agent.installing.environments import Environment, Making, choose_python, is_fit, made_of, shipped_files
from agent.installing.errors import InstallError
from agent.installing.parts import Account, GoesOn, Started, Swept, Units, account_exists
from agent.installing.sandbox import Trial
from agent.installing.steps import Command, File, Folder, Gone, Link, Step
from agent.installing.wheels import Wheel

_OURS = f"root:{layout.ACCOUNT}"
_SERVICES = f"{layout.ACCOUNT}:{layout.ACCOUNT}"
_SHIPPED = (layout.UNIT_NAME, "sysusers.conf")


@dataclass(frozen=True)
class Wishes:
    """What an installation was called with; None: as the one before, or as is usual."""

    config: Path | None = None
    """The configuration; None: the one that is installed."""
    credentials: Mapping[str, bytes] | None = None
    models: Path | None = None
    """Where the user's models are."""
    replace: bool = False
    """Configuration and models that the service has are replaced by those that are given."""
    now: bool = False
    """It is started now, and whenever the machine starts."""
    python: Path | None = None
    extras: tuple[str, ...] | None = None
    system_packages: bool | None = None
    find_links: tuple[Path, ...] = ()


def install(wheel: Wheel, wished: Wishes) -> list[Step]:
    """A first installation, or another version, or more of the same. Raises InstallError for what cannot come right."""
    _must_not_be_an_environment()
    config = _config(wished)
    settings, stores = needs.read(config), needs.user_stores(wished.models)
    given = dict(wished.credentials or {})
    credentials = sorted({*given, *_kept_credentials()})
    _are_enough(needs.credentials(config), credentials, config)
    needs.agrees(settings, stores)

    environment = Environment(wheel, _making(wished), wished.find_links)
    shipped = _of_wheel(wheel)
    before: list[Step] = [
        Account(shipped["sysusers.conf"]),
        Folder(layout.VERSIONS),
        environment,
        Folder(layout.SETTINGS, 0o750, _OURS),
        File(layout.CONFIG, config.read_bytes(), 0o640, _OURS, secret=True),
        *([Folder(layout.CREDENTIALS, 0o700)] if credentials else []),
        *(File(layout.CREDENTIALS / name, value, 0o600, secret=True) for name, value in given.items()),
        # One that is there may be from a backup, of an account with another number: systemd gives all in it to ours
        # (StateDirectory=), but only as long as the folder itself is not ours yet.
        *([] if layout.STATE.is_dir() else [Folder(layout.STATE, 0o750, _SERVICES)]),
        Folder(layout.MODELS, 0o755, _SERVICES),
        *needs.models(settings, stores, replace=wished.replace),
    ]
    return _switched(before, environment.folder, shipped, credentials, now=wished.now)


def roll_back() -> list[Step]:
    """The version before, with its unit; the one that was current becomes the one before."""
    environment = _target(layout.PREVIOUS)
    if environment is None or made_of(environment) is None:
        raise InstallError("there is no version before this one to go back to")
    files = shipped_files(environment)
    shipped = {name: (files / name).read_bytes() for name in _SHIPPED}
    return _switched([], environment, shipped, _kept_credentials(), now=False)


def uninstall(*, purge: bool) -> list[Step]:
    """All of it away; the configuration, what the agent has kept, and its account only with `purge`."""
    ours = _target(layout.COMMAND) is not None and _target(layout.COMMAND) == layout.CURRENT / "bin" / "sightwire"
    steps: list[Step] = [
        Command(
            "stop the service, and start it no more with the machine",
            ("systemctl", "disable", "--now", layout.UNIT_NAME),
            done=lambda: not layout.UNIT.exists(),
        ),
        Units([Gone(layout.UNIT), Gone(layout.DROP_INS if purge else layout.CREDENTIALS_DROP_IN)], forget=True),
        *([Gone(layout.COMMAND)] if ours else []),
        Gone(layout.CACHE),
    ]
    if purge:
        steps += [Gone(layout.SETTINGS), Gone(layout.STATE), Gone(layout.SYSUSERS)]
        steps += [
            Command(f"account {layout.ACCOUNT} away", ("userdel", layout.ACCOUNT), done=lambda: not account_exists())
        ]
    # Last: this command itself may run from there.
    return [*steps, Gone(layout.HOME)]


def left_over() -> list[Path]:
    """What an uninstallation without `purge` has left, besides the account."""
    return [path for path in (layout.SETTINGS, layout.STATE, layout.SYSUSERS, layout.DROP_INS) if path.exists()]


def _switched(
    before: Sequence[Step], environment: Path, shipped: Mapping[str, bytes], credentials: Sequence[str], *, now: bool
) -> list[Step]:
    """`before`, a trial, and over to this environment; a service that runs begins anew with it or goes on as before."""
    current, state = _target(layout.CURRENT), systemd.state()
    up = state in ("active", "activating", "reloading")
    wanted = up or state == "failed"  # it was meant to run: perhaps this mends it
    units = Units(
        [
            File(layout.UNIT, shipped[layout.UNIT_NAME]),
            *([Folder(layout.DROP_INS)] if credentials else []),
            *([File(layout.CREDENTIALS_DROP_IN, _drop_in(credentials))] if credentials else []),
        ]
    )
    switch: list[Step] = [
        *([Link(layout.PREVIOUS, current)] if current not in (None, environment) else []),
        Link(layout.CURRENT, environment),
        units,
        *_command_link(),
    ]
    news = any(not step.is_done() for step in (*before, *switch))
    again = Started("restart")
    # First, so that on the way back it comes last, when all is as it was.
    steps: list[Step] = [GoesOn(again)] if up else []
    steps += [*before, Trial(environment, credentials), *switch] if news else []
    if now:
        enable = ("systemctl", "enable", "--quiet", layout.UNIT_NAME)
        back = ("systemctl", "disable", "--quiet", layout.UNIT_NAME)
        steps.append(Command("start it with the machine", enable, back, done=systemd.is_enabled))
    if wanted and news:
        steps.append(again)
    elif now:
        steps.append(Started("start"))
    return [*steps, Swept({environment, current if current not in (None, environment) else _target(layout.PREVIOUS)})]


def _config(wished: Wishes) -> Path:
    """The one that will be in effect: that which is there stays unless it is to be replaced."""
    if layout.CONFIG.exists() and not (wished.replace and wished.config):
        return layout.CONFIG
    if wished.config is None:
        raise InstallError(
            f"there is no {layout.CONFIG} yet: give a configuration, sightwire service install site.yaml"
        )
    return wished.config


def _making(wished: Wishes) -> Making:
    """As it was done before where nothing else is said: an upgrade must not lose the GPU."""
    before = made_of(layout.CURRENT) or {}
    python = before.get("python", "")
    return Making(
        python=python if wished.python is None and is_fit(Path(python)) else choose_python(wished.python),
        extras=tuple(before.get("extras", ())) if wished.extras is None else tuple(sorted(set(wished.extras))),
        system_packages=bool(before.get("system_packages"))
        if wished.system_packages is None
        else wished.system_packages,
    )


def _of_wheel(wheel: Wheel) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel.path) as opened:
        return {name: opened.read(f"agent/installing/files/{name}") for name in _SHIPPED}


def _kept_credentials() -> list[str]:
    try:
        return sorted(path.name for path in layout.CREDENTIALS.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, PermissionError):
        return []


def _are_enough(wanted: Sequence[str], given: Sequence[str], config: Path) -> None:
    if missing := [name for name in wanted if name not in given]:
        options = " ".join(f"--credential {name}=FILE" for name in missing)
        raise InstallError(f"{config}: asks for credentials that the service has not: give {options}")


def _drop_in(credentials: Sequence[str]) -> bytes:
    lines = [f"LoadCredential={name}:{layout.CREDENTIALS / name}" for name in credentials]
    return "\n".join(["# Written by `sightwire service install --credential`.", "[Service]", *lines, ""]).encode()


def _command_link() -> Iterator[Step]:
    """`sightwire` for everybody, unless something else is called so."""
    target = layout.CURRENT / "bin" / "sightwire"
    there = shutil.which(layout.COMMAND.name, path=str(layout.COMMAND.parent))
    if there is None or _target(layout.COMMAND) == target:
        yield Link(layout.COMMAND, target)


def _target(link: Path) -> Path | None:
    return link.readlink() if link.is_symlink() else None


def _must_not_be_an_environment() -> None:
    if (layout.HOME / "pyvenv.cfg").exists():
        raise InstallError(
            f"{layout.HOME} is a virtual environment of your own, and the service keeps one for each version there: "
            "make yours elsewhere, and remove that one"
        )


def credential(text: str) -> tuple[str, bytes]:
    """`NAME=FILE`: the name, and what is in the file. Raises InstallError."""
    name, equals, file = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise InstallError(f"--credential {name}: expected NAME=FILE, as in mqtt=password.txt")
    try:
        return name, Path(file).read_bytes()
    except OSError as error:
        raise InstallError(f"--credential {name}: {file} cannot be read: {error.strerror}") from None
