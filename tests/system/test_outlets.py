"""A scan into Tiled and PVAccess, out of a real service; Tiled dies on the way."""

import signal

import pytest
from p4p.client.thread import Context
from tiled.client import from_uri

from tests.publish.tiled_server import KEY, TiledProcess
from tests.system.beam import Beam
from tests.system.conftest import Serving, wait_for
from tests.system.processes import Child

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


def pva_shows(address: str, scan: str) -> None:
    """Read the last scan's variables by the address that the service printed."""
    found = {"EPICS_PVA_NAME_SERVERS": address, "EPICS_PVA_AUTO_ADDR_LIST": "NO"}
    with Context("pva", conf=found, useenv=False) as client:
        wait_for(lambda: client.get("PTY:State") == "complete", "the end in PVAccess")
        assert client.get("PTY:Scan") == scan
        assert client.get("PTY:Quality") < 0.5
        assert client.get("PTY:Pva1:Image").ndim == 2
