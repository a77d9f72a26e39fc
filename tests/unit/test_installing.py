"""Setting the service up, without a machine to set up: steps, wheels, interpreters, and what mistakes are told."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.commands._app import app
from agent.installing import environments, layout, needs, plan, sandbox, status, systemd
from agent.installing.errors import InstallError
from agent.installing.steps import Command, File, Folder, Gone, Link, carry_out, owner_of, show
from agent.installing.wheels import read_wheel, wheel_from
from tests.support.models import tiny_bytes
from tests.support.versions import version_of

ME = owner_of(Path(__file__)) if os.geteuid() else "root:root"
CONFIG = """agent: {name: gatehouse}
mqtt: {url: 'mqtt://broker', username: cam, password: 'credential:mqtt'}
models: {people: {model: person-ssdlite}}
cameras: {dock: {source: {type: synthetic}, models: [people]}}
"""


@dataclass
class Noted:
    """A step that only notes what is asked of it."""

    says: str
    noted: list[str]
    done: bool = False
    fails: BaseException | None = None

    def shows(self) -> Iterator[str]:
        yield f"# {self.says}"

    def is_done(self) -> bool:
        return self.done

    def do(self) -> None:
        self.noted.append(f"do {self.says}")
        if self.fails:
            raise self.fails

    def undo(self) -> None:
        self.noted.append(f"undo {self.says}")


@dataclass
class Told:
    """What was told."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("error", [InstallError("no room"), KeyboardInterrupt()])
def test_what_was_made_is_unmade_in_reverse_when_a_step_fails(error: BaseException) -> None:
    """Also the half-made one, also at Ctrl-C; not what was so before, nor what never came."""
    noted: list[str] = []
    steps = [
        Noted("account", noted),
        Noted("folder", noted, done=True),
        Noted("environment", noted, fails=error),
        Noted("unit", noted),
    ]
    with pytest.raises(type(error)):
        carry_out(steps, Told())
    assert noted == ["do account", "do environment", "undo environment", "undo account"]


def test_an_error_of_the_system_is_told_with_its_file(tmp_path: Path) -> None:
    """One line: which step, why, where."""
    absent = tmp_path / "absent" / "unit"
    with pytest.raises(InstallError, match=rf"file {absent} \(.*\): No such file or directory: {absent.parent}"):
        carry_out([File(absent, b"")], Told())


def test_a_dry_run_shows_what_is_so_and_what_would_be_done(tmp_path: Path) -> None:
    """And does none of it."""
    noted: list[str] = []
    told = Told()
    show([Noted("account", noted, done=True), Noted("unit", noted), Noted("", noted)], told)
    assert told.lines == ["= account (is so already)", "+ unit", "    # unit"]
    assert noted == []


def test_files_folders_and_links_come_and_go_without_a_trace(tmp_path: Path) -> None:
    """Content, rights and owners of before are back after `undo`; doing twice is doing once."""
    old = tmp_path / "old.conf"
    old.write_text("before\n")
    old.chmod(0o600)
    link = tmp_path / "current"
    link.symlink_to("version-1")
    steps = [
        Folder(tmp_path / "a" / "b", 0o750, ME),
        File(tmp_path / "a" / "b" / "new.conf", b"new\n", 0o640, ME),
        File(old, b"after\n", 0o644, ME),
        Link(link, Path("version-2")),
        Link(tmp_path / "previous", Path("version-1")),
    ]
    carry_out(steps, Told())
    assert all(step.is_done() for step in steps)
    assert (old.read_text(), link.readlink(), (tmp_path / "a" / "b").stat().st_mode & 0o777) == (
        "after\n",
        Path("version-2"),
        0o750,
    )
    for step in reversed(steps):
        step.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "old.conf"]
    assert (old.read_text(), old.stat().st_mode & 0o777, link.readlink()) == ("before\n", 0o600, Path("version-1"))


def test_a_files_change_is_shown_as_a_difference_and_a_secret_is_not(tmp_path: Path) -> None:
    """As `diff` shows it."""
    unit = tmp_path / "unit"
    unit.write_text("[Service]\nRestart=no\n")
    assert list(File(unit, b"[Service]\nRestart=always\n").shows()) == [
        "@@ -1,2 +1,2 @@", " [Service]", "-Restart=no", "+Restart=always",
    ]  # fmt: skip
    assert "geheim" not in "".join(File(unit, b"geheim", secret=True).shows())


def test_what_is_removed_may_be_a_file_a_link_or_a_tree(tmp_path: Path) -> None:
    """A link's target stays."""
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    carry_out([Gone(tmp_path / name) for name in ("tree", "link", "never")], Told())
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    """And which one it was."""
    with pytest.raises(InstallError, match=r"start: failed \(3\)\nno such thing"):
        Command("start", ("sh", "-c", "echo no such thing >&2; exit 3")).do()
    with pytest.raises(InstallError, match="not-a-program: is not installed"):
        Command("start", ("not-a-program",)).do()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree."""
    return wheel_from(None, tmp_path_factory.mktemp("wheel")).path


def test_an_installed_sightwire_packs_itself_into_the_wheel_it_came_from(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pip has added; so no index is needed to put it elsewhere."""
    site = tmp_path / "site-packages"
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    (info,) = site.glob("*.dist-info")
    (info / "INSTALLER").write_text("pip\n")
    with (info / "RECORD").open("a") as record:
        record.write(f"{info.name}/INSTALLER,,\n../../bin/sightwire,,\nagent/__pycache__/cli.cpython-311.pyc,,\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr("agent.__file__", str(site / "agent" / "__init__.py"))
    (tmp_path / "out").mkdir()
    packed = wheel_from(None, tmp_path / "out")
    assert packed.path.name == wheel.name
    assert packed.digest == read_wheel(wheel).digest


def test_versions_and_their_changes_are_told_apart(wheel: Path, tmp_path: Path) -> None:
    """Another version, and another content of the same version, have environments of their own."""
    newer = read_wheel(version_of(wheel, "97.0", tmp_path))
    (tmp_path / "changed").mkdir()
    changed = read_wheel(version_of(wheel, "97.0", tmp_path / "changed", appended=("agent/cli.py", "\n")))
    assert (newer.version, changed.version) == ("97.0", "97.0")
    making = environments.Making("/usr/bin/python3")
    folders = {environments.Environment(one, making).folder for one in (read_wheel(wheel), newer, changed)}
    folders.add(environments.Environment(newer, environments.Making("/usr/bin/python3", ("gpu",))).folder)
    assert len(folders) == 4
    assert all(folder.parent == layout.VERSIONS for folder in folders)


def test_what_is_no_wheel_of_sightwire_is_refused(tmp_path: Path) -> None:
    """With what it is instead."""
    other = tmp_path / "other-1.0-py3-none-any.whl"
    with zipfile.ZipFile(other, "w") as made:
        made.writestr("other-1.0.dist-info/METADATA", "Name: other\nVersion: 1.0\n")
    with pytest.raises(InstallError, match="is a wheel of other, not of sightwire"):
        wheel_from(str(other), tmp_path)
    other.write_bytes(tiny_bytes())
    with pytest.raises(InstallError, match="is not a whole wheel"):
        wheel_from(str(other), tmp_path)
    with pytest.raises(InstallError, match=r"absent\.whl: cannot be read: No such file"):
        wheel_from(str(tmp_path / "absent.whl"), tmp_path)
    with pytest.raises(InstallError, match=r"is neither a wheel .* nor a version"):
        wheel_from("sightwire.tar.gz", tmp_path)


def test_an_interpreter_in_somebodys_home_is_not_the_services() -> None:
    """The sandbox hides it; the error says so."""
    with pytest.raises(InstallError, match="--python /home/me/bin/python3: lies in /home, which is hidden"):
        environments.choose_python(Path("/home/me/bin/python3"))
    with pytest.raises(InstallError, match="--python /usr/bin/absent: is not there"):
        environments.choose_python(Path("/usr/bin/absent"))


def test_credentials_are_found_wherever_a_configuration_names_them(tmp_path: Path) -> None:
    """In cameras and brokers, once each."""
    config = tmp_path / "site.yaml"
    config.write_text(CONFIG.replace("{type: synthetic}", "{url: 'rtsp://c', username: u, password: 'credential:cam'}"))
    assert needs.credentials(config) == ["cam", "mqtt"]
    with pytest.raises(InstallError, match="expected NAME=FILE"):
        plan.credential("mqtt")
    with pytest.raises(InstallError, match="--credential mqtt: /absent cannot be read: No such file"):
        plan.credential("mqtt=/absent")


def test_a_trial_runs_in_all_of_the_units_sandbox_and_nothing_of_its_life() -> None:
    """Every line of [Service] about who and where, none about when."""
    unit = (layout.FILES / layout.UNIT_NAME).read_text()
    lines = set(sandbox.properties(unit))
    assert {"User=sightwire", "ProtectSystem=strict", "DevicePolicy=closed", "SystemCallFilter=~@privileged"} <= lines
    assert not [line for line in lines if line.startswith(("ExecStart", "Type=", "Restart", "Watchdog", "Wants"))]


def test_a_command_is_tried_with_all_that_the_unit_and_its_drop_ins_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the service's version, on its configuration; without a service, what to do."""
    monkeypatch.setattr(layout, "CURRENT", tmp_path / "current")
    monkeypatch.setattr(layout, "UNIT", layout.FILES / layout.UNIT_NAME)
    monkeypatch.setattr(layout, "DROP_INS", tmp_path)
    with pytest.raises(InstallError, match="there is no service yet: sudo sightwire service install"):
        sandbox.as_the_service("doctor", (), terminal=False)
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / "sightwire-installed.json").write_text("{}")
    (tmp_path / "60-mine.conf").write_text("[Service]\nRestartSec=1\nIPAddressDeny=any\n")
    words = sandbox.as_the_service("doctor", ("--json",), terminal=False)
    assert {"--pipe", "User=sightwire", "IPAddressDeny=any"} < set(words)
    assert "RestartSec=1" not in words
    assert words[-4:] == [f"{tmp_path}/current/bin/sightwire", "doctor", "/etc/sightwire/site.yaml", "--json"]


@pytest.mark.parametrize(
    ("state", "result", "restarts", "ended", "said"),
    [
        ("active", "success", "0", "0", "active (x)"),
        ("failed", "exit-code", "0", "78", "failed (x): its configuration is wrong, /etc/sightwire/site.yaml"),
        ("activating", "watchdog", "3", "6", "activating (x): it hung"),
        ("failed", "exit-code", "20", "1", "failed (x): it failed too often; the last time: it failed"),
        ("failed", "start-limit-hit", "20", "0", "failed (x): it failed too often"),
        ("failed", "timeout", "2", "0", "failed (x): it did not get ready or did not end in time"),
    ],
)
def test_a_state_is_told_in_words(
    state: str, result: str, restarts: str, ended: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd 252 shows them; it calls a service that has used up its starts by how the last one ended."""
    known = dict.fromkeys(status._WANTED, "") | {
        "ActiveState": state, "SubState": "x", "Result": result, "NRestarts": restarts, "ExecMainStatus": ended,
        "StartLimitBurst": "20",
    }  # fmt: skip
    monkeypatch.setattr(systemd, "properties", lambda *_: known)
    monkeypatch.setattr(status, "_errors", lambda: iter(()))
    assert dict(status.describe())["state"] == said


def test_a_dry_run_needs_no_root_and_shows_every_step(wheel: Path, tmp_path: Path) -> None:
    """Commands and contents, but no password; a missing credential is told first."""
    config, password = tmp_path / "site.yaml", tmp_path / "password"
    config.write_text(CONFIG)
    password.write_text("geheim\n")
    command = ["service", "install", str(config), "--dry-run", f"--wheel={wheel}", f"--models={tmp_path}"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "asks for credentials that the service has not: give --credential mqtt=FILE" in refused.output
    shown = CliRunner().invoke(app, [*command, f"--credential=mqtt={password}"])
    assert shown.exit_code == 0, shown.output
    wanted = ("systemd-sysusers", "-m venv", "-m pip", "models pull person-ssdlite", "systemd-run", "ln -sfn")
    for text in (*wanted, "+DevicePolicy=closed", "LoadCredential=mqtt:/etc/sightwire/credentials/mqtt"):
        assert text in shown.output
    assert "geheim" not in shown.output
    assert not layout.HOME.exists()


def test_a_mistake_in_the_configuration_is_told_before_anything_is_done(wheel: Path, tmp_path: Path) -> None:
    """With its line."""
    config = tmp_path / "site.yaml"
    config.write_text(CONFIG.replace("source", "sorce"))
    refused = CliRunner().invoke(app, ["service", "install", str(config), f"--wheel={wheel}", "--dry-run"])
    assert refused.exit_code == 1
    assert f"{config}:4: cameras.dock.sorce: unknown key, did you mean 'source'?" in refused.output


@pytest.mark.parametrize("command", ["install", "upgrade", "rollback", "uninstall", "status", "try check", "logs"])
def test_without_systemd_every_command_says_so(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line that says what to do instead."""
    monkeypatch.setattr(systemd, "BOOTED", Path("/absent"))
    refused = CliRunner().invoke(app, ["service", *command.split()])
    assert refused.exit_code == 1
    assert "was not booted with systemd" in refused.output


@pytest.mark.parametrize("command", ["install", "upgrade", "rollback", "uninstall", "try doctor"])
def test_without_root_every_change_is_refused(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command for root."""
    monkeypatch.setattr(systemd, "BOOTED", Path("/"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused = CliRunner().invoke(app, ["service", *command.split()])
    assert refused.exit_code == 1
    assert f"this needs root: sudo sightwire service {command}" in refused.output


def test_taking_away_has_no_way_back_and_goes_on_when_asked_again() -> None:
    """What is gone stays gone: nothing is undone that cannot be."""
    noted: list[str] = []
    told = Told()
    with pytest.raises(InstallError):
        carry_out([Noted("unit", noted), Noted("rest", noted, fails=InstallError("busy"))], told, back=False)
    assert noted == ["do unit", "do rest"]
    assert told.lines[-1] == "that failed; the same command again goes on from here"


def test_with_folders_of_packages_no_index_is_asked(wheel: Path, tmp_path: Path) -> None:
    """For machines that reach none; extras and the system's packages as wished."""
    making = environments.Making("/usr/bin/python3", ("cuda12",), system_packages=True)
    venv, pip = environments.Environment(read_wheel(wheel), making, (tmp_path,)).shows()
    assert "--system-site-packages" in venv
    assert f"--no-index --find-links {tmp_path} '{wheel}[cuda12]'" in pip
