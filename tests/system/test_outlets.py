"""A scan into Tiled, PVAccess and documents; Tiled, and the proxy, die on the way."""

import signal

import pytest
from p4p.client.thread import Context
from tiled.client import from_uri

from tests.publish.test_documents_live import LISTENER, free_addresses
from tests.publish.tiled_server import KEY, TiledProcess
from tests.system.beam import Beam
from tests.system.conftest import Serving, wait_for
from tests.system.processes import Child
from tests.system.test_documents import PROXY

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


def metadata(server: TiledProcess, run: str) -> dict:
    root = from_uri(server.uri, api_key=KEY)
    try:
        return dict(root[f"ptystream/{run}"].metadata)
    except KeyError:
        return {}
    finally:
        root.context.close()


def test_a_tiled_server_killed_mid_scan_costs_its_own_count(key_file, tmp_path):
    with TiledProcess() as server, Beam() as beam:
        flags = beam.serve_flags(
            tmp_path,
            f'--set=publish.tiled={{uri = "{server.uri}", every_s = 0.1}}',
            f'--set=publish.tiled.key_file="{key_file}"',
            '--set=publish.pva={prefix = "PTY", port = 0}',
        )
        with Child(tmp_path, "serve", *flags) as child:
            service = Serving(child, tmp_path)
            beam.wait()
            scan = beam.start(meta={**beam.experiment.meta, "uid": "raw-run-7"})
            beam.expose(scan, 0, len(beam) // 2)
            run = wait_for(lambda: service.status()["run"], "a run")
            wait_for(lambda: metadata(server, run).get("step"), "a preview in Tiled")
            server.kill()
            before = service.metric('sink_failures_total{sink="tiled"}')
            wait_for(
                lambda: service.metric('sink_failures_total{sink="tiled"}') > before,
                "a failure that is counted",
            )
            steps = service.status()["step"]
            wait_for(lambda: service.status()["step"] > steps, "the engine goes on")
            server.serve()
            server.wait()
            beam.expose(scan, len(beam) // 2, len(beam))
            beam.end(scan)
            ended = service.ended(scan=scan)
            assert ended["frames"]["paired"] == len(beam)
            wait_for(lambda: metadata(server, run).get("complete"), "a whole run")
            assert metadata(server, run)["original_run_uid"] == "raw-run-7"
            pva_shows(service.addresses["pva"], scan)
            child.send(signal.SIGTERM)
            assert child.ends() == 0, child.said()
            assert KEY not in child.said()


def until(listener: Child, name: str) -> dict:
    """Return the next document of this kind that is heard."""
    while True:
        kind, document = listener.line()
        if kind == name:
            return document


def test_a_proxy_killed_mid_scan_costs_its_events_alone(tmp_path):
    inward, outward = free_addresses(2)
    words = ("--in-address", inward, "--out-address", outward)
    heard = (str(LISTENER), outward, "an")
    failed = 'sink_failures_total{sink="documents"}'
    with (
        Child(tmp_path, *words, python=PROXY) as proxy,
        Child(tmp_path, python=heard) as listener,
        Beam() as beam,
    ):
        assert listener.line()[0] == "ready"
        flags = beam.serve_flags(tmp_path, f"--set=publish.documents={inward}")
        with Child(tmp_path, "serve", *flags) as child:
            service = Serving(child, tmp_path)
            beam.wait()
            service.ended(scan=beam.scan())  # the bus may miss the start of its first
            until(listener, "stop")
            scan = beam.start()
            beam.expose(scan, 0, len(beam) // 2)
            until(listener, "event")
            proxy.send(signal.SIGKILL)
            before = service.metric(failed)
            wait_for(lambda: service.metric(failed) > before + 1, "what is counted")
            steps = service.status()["step"]
            wait_for(lambda: service.status()["step"] > steps, "the engine goes on")
            with Child(tmp_path, *words, python=PROXY):
                # Its first event tells by its number that some are missing.
                number = until(listener, "event")["seq_num"]
                beam.expose(scan, len(beam) // 2, len(beam))
                beam.end(scan)
                ended = service.ended(scan=scan)
                assert ended["frames"]["paired"] == len(beam)
                assert until(listener, "stop")["run_start"] == ended["run"]
                assert number > 2
                child.send(signal.SIGTERM)
                assert child.ends() == 0, child.said()


def pva_shows(address: str, scan: str) -> None:
    """Read the last scan's variables by the address that the service printed."""
    found = {"EPICS_PVA_NAME_SERVERS": address, "EPICS_PVA_AUTO_ADDR_LIST": "NO"}
    with Context("pva", conf=found, useenv=False) as client:
        wait_for(lambda: client.get("PTY:State") == "complete", "the end in PVAccess")
        assert client.get("PTY:Scan") == scan
        assert client.get("PTY:Quality") < 0.5
        assert client.get("PTY:Pva1:Image").ndim == 2
