"""`sightwire doctor` against this machine, real brokers and what is wrong with them."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.doctor import broker
from agent.doctor.findings import Finding
from agent.sinks.mqtt import Config
from tests.support.agents import fake_model, fake_store
from tests.support.broker import USER, Mosquitto, Subscriber, free_port
from tests.support.process import ROOT, Sightwire, sightwire


def examined(out: str) -> dict[str, list[dict[str, Any]]]:
    """Findings by topic of `--json`, its schema checked."""
    said = json.loads(out)
    assert said["schema"] == "sightwire.doctor/1"
    assert set(said) == {"schema", "sightwire", "examined_at", "problems", "findings"}
    topics: dict[str, list[dict[str, Any]]] = {}
    for finding in said["findings"]:
        assert set(finding) == {"topic", "state", "text", "mend"}
        assert finding["state"] in ("ok", "note", "problem")
        assert finding["mend"] or finding["state"] != "problem"
        topics.setdefault(finding["topic"], []).append(finding)
    assert said["problems"] == sum(f["state"] == "problem" for f in said["findings"])
    return topics


def test_this_machine_is_examined_in_the_time_allowed(tmp_path: Path) -> None:
    status, out, err = sightwire("doctor", "--json", models=fake_store(tmp_path).root, deadline_s=12)
    topics = examined(out)
    assert set(topics) == {"machine", "clock", "packages", "gpu", "cameras", "storage", "models"}
    assert not any("check failed" in f["text"] for found in topics.values() for f in found)
    assert any(f["text"].startswith("OpenVINO sees CPU") for f in topics["gpu"])
    assert status == int(any(f["state"] == "problem" for found in topics.values() for f in found))
    assert err == ""


def test_everything_that_is_wrong_with_a_site_is_said_at_once_and_without_credentials(tmp_path: Path) -> None:
    dead = free_port()
    path = tmp_path / "site.yaml"
    site = {
        "agent": {"name": "gate"},
        "mqtt": {"url": f"mqtt://127.0.0.1:{dead}", "username": "cam", "password": "hunter2"},
        "models": {"c": fake_model("classes"), "people": {"model": "person-ssdlite"}},
        "cameras": {
            "dock": {"source": {"type": "synthetic"}, "models": ["c"]},
            "yard": {"source": f"rtsp://admin:hunter2@127.0.0.1:{dead}/x", "models": ["people"]},
        },
    }
    path.write_text(yaml.safe_dump(site))
    models = fake_store(tmp_path / "models").root
    status, out, err = sightwire("doctor", path, "--json", models=models, deadline_s=12)
    assert (status, err) == (1, "")
    topics = examined(out)
    (refused,) = topics["broker"]
    assert refused["text"] == f"127.0.0.1:{dead}: connection refused"
    assert "mosquitto" in refused["mend"]
    dock, yard = topics["sources"]
    assert (dock["state"], yard["state"]) == ("ok", "problem")
    assert yard["text"].startswith(f"yard: rtsp://***@127.0.0.1:{dead}/x: ")
    assert [f["mend"] for f in topics["models"] if f["state"] == "problem"] == ["sightwire models pull person-ssdlite"]
    assert "hunter2" not in out

    status, out, err = sightwire("doctor", path, models=models, deadline_s=12)
    assert (status, err) == (1, "")
    assert "  → sightwire models pull person-ssdlite" in out.splitlines()
    assert "hunter2" not in out


def test_a_wrong_configuration_is_a_problem_among_others(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("agent: {nam: gate}\n")
    status, out, _ = sightwire("doctor", path, "--json", models=fake_store(tmp_path / "models").root)
    topics = examined(out)
    assert status == 1
    assert "did you mean 'name'?" in topics["configuration"][0]["text"]
    assert "machine" in topics


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = tmp_path / "site.yaml"
        camera = {"source": f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", "models": ["c"]}
        site = {"agent": {"name": "gate"}, "models": {"c": fake_model("classes")}, "cameras": {"dock": camera}}
        path.write_text(yaml.safe_dump(site))
        with Sightwire("doctor", path, models=fake_store(tmp_path / "models").root) as command:
            silent.settimeout(10)
            silent.accept()[0].close()  # it is at work
            command.interrupt()
            assert command.wait() == 130
            assert "Traceback" not in command.err


# -- brokers


def look(url: str, **settings: Any) -> list[Finding]:
    return list(broker.look(Config.model_validate({"url": url, **settings}), "gate"))


def test_a_broker_that_takes_us_is_well_and_the_agent_is_not_disturbed(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, password="secret") as there, Subscriber(there.observer_url, "#") as listener:
        (found,) = look(there.url, username=USER, password="secret")
        assert (found.state, found.text) == ("ok", f"127.0.0.1:{there.port} takes us: MQTT 5, without TLS")
        assert listener.messages == []


@pytest.mark.parametrize(
    ("credentials", "mend"),
    [
        ({"username": USER, "password": "wrong"}, "as the broker knows them"),
        ({}, "if this broker wants them"),
    ],
)
def test_a_broker_that_refuses_us_is_a_problem(tmp_path: Path, credentials: dict[str, str], mend: str) -> None:
    with Mosquitto(tmp_path, password="secret") as there:
        (found,) = look(there.url, **credentials)
    assert found.state == "problem"
    assert mend in (found.mend or "")
    assert "refuses" in found.text
    assert "wrong" not in found.text


def test_a_broker_that_knows_its_clients_by_name_is_told_ours(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, extra="clientid_prefixes gate\n") as there:
        (found,) = look(there.url)
        (known,) = look(there.url, client_id="gate")
    assert found.state == "problem"
    assert "have it take the client_id sightwire-gate-doctor too" in (found.mend or "")
    assert known.state == "ok"


def test_a_password_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (found,) = look("mqtt://127.0.0.1:1", username=USER, password_file=tmp_path / "none")
    assert found.state == "problem"
    assert f"{tmp_path / 'none'}: cannot be read" in found.text


@pytest.mark.parametrize("where", ["proxy", "headers"])
def test_a_secret_of_the_way_to_the_broker_that_is_not_there_is_a_problem(tmp_path: Path, where: str) -> None:
    """Of ours to say, not a mistake of ours."""
    proxy = {"url": "http://127.0.0.1:1", "username": USER, "password_file": tmp_path / "none"}
    settings = {"proxy": {"proxy": proxy}, "headers": {"headers": {"Authorization": "credential:none"}}}[where]
    (found,) = look("ws://127.0.0.1:1", **settings)
    assert (found.state, found.mend) == ("problem", "correct it under mqtt: in the configuration")
    assert "none" in found.text


def test_a_broker_behind_tls_says_how_long_its_certificate_is_good(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, tls=True) as there:
        assert there.certificates is not None
        soon, well = look(there.url, ca=there.certificates.ca)
        (stranger,) = look(there.url, ca=there.certificates.wrong_ca)
        (plain,) = look(there.url.replace("mqtts", "mqtt"))
    assert soon.state == "note"  # the tests' certificates are good for a day
    assert well.state == "ok"
    assert "TLSv1.3, certificate until 20" in well.text
    assert stranger.mend == "mqtt: {ca: FILE.pem}, the authority that signed the broker's certificate"
    assert f"mqtts://127.0.0.1:{there.port}" in (plain.mend or "")


def test_tls_to_a_port_that_speaks_none_is_a_problem(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as there:
        (found,) = look(there.url.replace("mqtt", "mqtts"))
    assert found.state == "problem"
    assert f"mqtt://127.0.0.1:{there.port}" in (found.mend or "")


def test_a_broker_that_wants_a_client_certificate_is_a_problem(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, client_certs=True) as there:
        assert there.certificates is not None
        *_, found = look(there.url, ca=there.certificates.ca)
    assert found.state == "problem"
    assert "cert: FILE.pem" in (found.mend or "")


def test_an_expired_certificate_is_a_problem(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, tls=True) as there:
        assert there.certificates is not None
        there.stop()
        expired(there.certificates.server, there.certificates.server_key)
        there.certificates.ca.write_bytes(there.certificates.server.read_bytes())
        there.restart()
        (found,) = look(there.url, ca=there.certificates.ca)
    assert found.state == "problem"
    assert "certificate has expired" in found.text
    assert (found.mend or "").startswith("renew the broker's certificate")


def expired(certificate: Path, key_file: Path) -> None:
    """Make a certificate that signs itself and ended yesterday."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(address, False).not_valid_before(now - datetime.timedelta(days=9))
    builder = builder.not_valid_after(now - datetime.timedelta(days=1))
    pem = serialization.Encoding.PEM
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    unprotected = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unprotected))


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_says_nothing_is_a_problem(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_ANSWER_S", 0.5)
    (found,) = look(f"mqtt://127.0.0.1:{silent}")
    assert found.state == "problem"
    assert "does not answer" in found.text


def test_a_name_that_nobody_knows_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (found,) = look("mqtt://broker.invalid")
    assert (found.state, found.text) == ("problem", "broker.invalid:1883: host name not found")
    assert "getent hosts broker.invalid" in (found.mend or "")


def test_a_folder_that_hides_ours_is_said_and_not_a_traceback(tmp_path: Path) -> None:
    """Another package of our name before ours on the path."""
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines/__init__.py").touch()
    code = "import sys; from agent.cli import main; sys.argv = ['sightwire', 'doctor']; main()"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"the package engines is taken from {tmp_path / 'engines'}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
