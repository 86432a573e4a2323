"""Everything encrypted: beamline, service, terminal and operator, each a process."""

import json
from pathlib import Path

import pytest
import zmq

from tests.system.conftest import FRAMES
from tests.system.processes import Child, ran

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def detector_flags(keyring, stream: str, name: str = "viewer") -> list[str]:
    return [
        f"--set={stream}.curve.server_key_file={keyring.public('service')}",
        f"--set={stream}.curve.client_secret_file={keyring.secret(name)}",
    ]


def traces(child: Child) -> bytes:
    """Return what other users of the machine see of a process, and what it logged."""
    proc = Path(f"/proc/{child.process.pid}")
    shown = b"".join((proc / name).read_bytes() for name in ("cmdline", "environ"))
    return shown + child.said().encode()


def test_a_scan_of_which_a_stranger_sees_nothing(
    keyring, simulate, serve, start, tmp_path
):
    lists = f"--key={keyring.secret('service')}", f"--allow={keyring.folder}/readers"
    beamline, endpoints = simulate(*lists)
    told = traces(beamline)
    streams = [f for s in ("detector", "positions") for f in detector_flags(keyring, s)]
    service = serve(endpoints, *streams, *keyring.serve_flags())
    at = service.addresses

    watch = ("watch", "--json", f"--status={at['status']}")
    viewer = start(*watch, *keyring.client_flags("viewer"))
    assert viewer.line()["instance"]
    stranger = start(*watch, "--once", "--timeout=2", *keyring.client_flags("stranger"))
    assert stranger.ends() == 1
    assert "are the keys right" in stranger.said()

    control = f"--address={at['control']}"
    reply = _control(tmp_path, 1, "stop", control, *keyring.client_flags("viewer"))
    assert reply["error"] == "stop: this key may only look"
    assert _control(tmp_path, 0, "ping", control, *keyring.client_flags("operator"))

    ended = service.ended()
    assert (ended["reason"], ended["frames"]["paired"]) == ("complete", FRAMES)
    numbers = service.get("/metrics")[1]
    assert "ptystream_frames_received_total" in numbers
    assert service.metric("handshakes_refused_total") > 0
    for name in (ended["scan"], ended["run"], str(tmp_path)):
        assert name not in numbers
    secrets = [keyring.of(n).secret for n in ("viewer", "operator")]
    secrets.append(keyring.admission().keys.secret)
    told += traces(service.child) + traces(viewer) + beamline.said().encode()
    assert not any(secret.encode() in told for secret in secrets)


def _control(folder: Path, code: int, *words: str) -> dict:
    """Return the reply that ``ptystream control`` prints."""
    with Child(folder, "control", *words) as child:
        assert child.ends() == code, child.said()
        assert child.process.stdout is not None
        return json.loads(child.process.stdout.read())


def test_a_tape_is_recorded_from_and_replayed_to_those_with_keys(
    keyring, simulate, start, tmp_path
):
    key, allow = (
        f"--key={keyring.secret('service')}",
        f"--allow={keyring.folder}/readers",
    )
    _, endpoints = simulate(key, allow)
    tape = tmp_path / "scan.tape"
    where = [f"--{name}={url}" for name, url in endpoints.items()]
    streams = [f for s in ("detector", "positions") for f in detector_flags(keyring, s)]
    record = ("record", f"--output={tape}", "--scans=1", "--idle=20")
    said = ran(tmp_path, *record, *where, *streams)
    assert said[-1]["received"] > FRAMES

    free = "tcp://127.0.0.1:0"
    flags = [f"--detector={free}", f"--positions={free}", "--speed=0", key, allow]
    replay = start("replay", str(tape), *flags)
    sent = replay.line()
    again = [
        f"--detector={sent['det'].replace('tcp', 'ptys+sub')}",
        f"--positions={sent['pos'].replace('tcp', 'ptys+sub')}",
        f"--output={tmp_path / 'again.tape'}",
    ]
    with zmq.Context() as context, context.socket(zmq.SUB) as stranger:
        keyring.of("stranger").apply(stranger)
        stranger.subscribe(b"")
        stranger.connect(sent["det"])
        said_again = ran(tmp_path, "record", "--scans=1", "--idle=20", *again, *streams)
        assert not stranger.poll(0)
    assert said_again[-1]["received"] > FRAMES
    assert replay.ends() == 0
