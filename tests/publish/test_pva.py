import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from ptystream.errors import ConfigError
from ptystream.publish.pva import VARIABLES, PvaServer, PvaSink
from ptystream.publish.sink import FrameCounts, RunEnd
from ptystream.recon.findings import Finding
from ptystream.recon.snapshot import Quality

pytest.importorskip("p4p")
from p4p.client.thread import Context, RemoteError
from p4p.util import ThreadedWorkQueue

FRAMES = FrameCounts(received=5, lost={"ring_full": 2, "late": 1})
END = RunEnd("complete", "converged", 1.0)
T = 1.7e9 + 0.25


@pytest.fixture
def server():
    with PvaServer("PTY", port=0, clock=lambda: T) as server:
        yield server


@pytest.fixture
def get(server):
    """Read a variable with a real client, as the raw structure."""
    with Context("pva", conf=server.settings, useenv=False, nt=False) as client:
        yield lambda name: client.get(f"PTY:{name}", timeout=5)


def test_figures_before_a_run_in_it_and_after(server, get, info, snapshot):
    sink = PvaSink(server.post)
    assert get("State").value == ""
    assert np.isnan(get("Quality").value)
    sink.start(info(scan="scan-7"))
    assert (get("State").value, get("Scan").value) == ("running", "scan-7")
    assert get("Converged").value is False
    quality = Quality(held_out_error=0.25, covered=0.75)
    sink.update(snapshot(quality=quality, step=7), FRAMES)
    assert (get("Converged").value, get("Health").value) == (False, "")
    assert get("Quality").value == 0.25
    assert get("Covered").value == 0.75
    assert (get("Step").value, get("Frames").value, get("Lost").value) == (7, 5, 3)
    assert np.isnan(get("Resolution").value)
    assert get("Resolution").display.units == "m"
    stamp = get("Quality").timeStamp
    assert stamp.secondsPastEpoch + stamp.nanoseconds / 1e9 == T
    found = Finding("positions lag", "start them with the first frame", 0.93)
    better = Quality(resolution_m=2e-8, converged=True)
    sink.update(snapshot(quality=better, health=(found,)), FRAMES)
    assert (get("Resolution").value, get("Converged").value) == (2e-8, True)
    assert get("Rung").value == "reconstruction"
    said = "positions lag (93%): start them with the first frame"
    assert get("Health").value == said
    sink.stop(snapshot(step=8), FRAMES, END)
    assert (get("State").value, get("Step").value) == ("complete", 8)
    sink.start(info(scan="scan-8"))
    assert get("Step").value == 0
    assert np.isnan(get("Quality").value)


def test_images_are_real_placed_and_counted(server, get, info, snapshot):
    sink = PvaSink(server.post, max_px=32)
    sink.start(info())
    for number in (1, 2):
        sink.update(snapshot((1, 40, 56)), FRAMES)
        assert get("Pva1:Image").uniqueId == number
    for name, variable in VARIABLES.items():
        if not variable.image:
            continue
        image = get(name)
        assert image.getID() == "epics:nt/NTNDArray:1.0"
        assert image.value.dtype == np.float32
        assert image.display.units == variable.units
        assert image.uniqueId == 2
        about = {a.name: a.value for a in image.attribute}
        side = 1 if variable.image == "probe_amplitude" else 2
        assert about["PixelSizeY"] == pytest.approx(side * 10e-9)
        assert about["PixelSizeX"] == pytest.approx(side * 12e-9)
        size = [16, 16] if side == 1 else [28, 20]  # x first on this wire
        assert [d.size for d in image.dimension] == size
    about = {a.name: a.value for a in get("Pva2:Image").attribute}
    assert about["OriginY"] == pytest.approx(-1e-6 + 5e-9)


def test_the_first_image_is_the_amplitude_and_the_probe_is_of_all_modes(
    server, get, info, snapshot
):
    shot = snapshot(
        object=np.full((1, 8, 8), 2j, np.complex64),
        probe=np.array([np.full((4, 4), 3), np.full((4, 4), 4j)], np.complex64),
        coverage=np.ones((8, 8), np.float32),
    )
    PvaSink(server.post).update(shot, FRAMES)
    np.testing.assert_allclose(get("Pva1:Image").value, 2, rtol=1e-6)
    np.testing.assert_allclose(get("Pva3:Image").value, 5, rtol=1e-6)


def test_a_monitor_sees_what_it_missed_by_the_ids(server, snapshot):
    ids: list[int] = []
    queue = ThreadedWorkQueue()
    settings = {"conf": server.settings, "useenv": False, "nt": False}
    with Context("pva", **settings) as client:
        queue.start()
        watch = client.monitor(
            "PTY:Pva1:Image", lambda v: ids.append(v.uniqueId), queue=queue
        )
        sink = PvaSink(server.post)
        deadline_s = time.monotonic() + 10
        while not ids and time.monotonic() < deadline_s:
            time.sleep(0.01)
        for _ in range(5):
            sink.update(snapshot(), FRAMES)
        while ids[-1] != 5 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        watch.close()
        queue.stop()
    assert ids == sorted(set(ids))
    assert ids[-1] == 5


def test_nobody_can_write(server):
    with Context("pva", conf=server.settings, useenv=False) as client:
        with pytest.raises(RemoteError, match="not supported"):
            client.put("PTY:Step", 3, timeout=5)


def test_it_binds_to_loopback_unless_told(server):
    assert server.address.startswith("127.0.0.1:")
    assert server.settings["EPICS_PVAS_AUTO_BEACON_ADDR_LIST"] == "NO"


def test_a_port_that_is_taken_is_told(server, caplog):
    taken = int(server.address.rpartition(":")[2])
    with PvaServer("PTY2", port=taken, broadcast_port=taken) as second:
        assert second.address != server.address
    assert f"port {taken} is taken" in caplog.text


@pytest.mark.parametrize("prefix", ["", "A B", "A\n"])
def test_a_prefix_that_is_no_name_is_refused(prefix):
    with pytest.raises(ConfigError, match="prefix"):
        PvaServer(prefix)


def test_an_interface_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="PVAccess"):
        PvaServer("PTY", "no-such-host.invalid", port=0).__enter__()


OPHYD = """
import asyncio, json, sys
import numpy as np
from ophyd_async.epics.core import epics_signal_r

async def main():
    told = {}
    for name, kind in (("Quality", float), ("Lost", int), ("State", str),
                       ("Converged", bool), ("Pva1:Image", np.ndarray)):
        signal = epics_signal_r(kind, f"pva://PTY:{name}", name="s")
        await signal.connect(timeout=10)
        value = (await signal.read())["s"]["value"]
        key = (await signal.describe())["s"]
        told[name] = [getattr(value, "shape", value), key["dtype_numpy"]]
    print(json.dumps(told))

asyncio.run(main())
"""


@pytest.mark.system
def test_ophyd_async_reads_it(server, snapshot):
    pytest.importorskip("ophyd_async")
    sink = PvaSink(server.post)
    sink.update(snapshot((1, 40, 56)), FRAMES)
    sink.stop(None, FRAMES, END)
    found = {
        "EPICS_PVA_NAME_SERVERS": server.address,
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_ADDR_LIST": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", OPHYD],
        env={**os.environ, **found},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "Quality": [0.25, "<f8"],
        "Lost": [3, "<i8"],
        "State": ["complete", "|S40"],
        "Converged": [False, "|b1"],
        "Pva1:Image": [[40, 56], "<f4"],
    }


def test_without_p4p_the_error_names_the_extra():
    code = """
import sys
sys.modules["p4p"] = sys.modules["p4p.nt"] = None
from ptystream.publish.pva import PvaServer
from ptystream.errors import ConfigError
try:
    PvaServer("PTY")
except ConfigError as error:
    sys.exit(0 if "ptystream[epics]" in str(error) else 2)
sys.exit(1)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
