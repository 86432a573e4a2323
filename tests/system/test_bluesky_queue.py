"""The plans from a real queue server, with nothing but JSON for arguments."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import pytest

from tests.publish.test_documents_live import free_addresses
from tests.system.conftest import wait_for
from tests.system.test_bluesky import LONG, SMALL_FLAGS

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]
REDIS = (
    "from fakeredis import TcpFakeServer;"
    "TcpFakeServer(('127.0.0.1', {port}), server_type='redis').serve_forever()"
)


@pytest.fixture
def queue(serve, tmp_path, monkeypatch):
    """A queue server's client, and the service that its devices talk to."""
    pytest.importorskip("bluesky_queueserver")
    pytest.importorskip("fakeredis")
    from bluesky_queueserver_api.zmq import REManagerAPI

    redis, control, told, detector, encoder = free_addresses(5)
    service = serve(
        {
            "detector": f"ptys+sub://{detector}",
            "positions": f"ptys+sub://{encoder}",
        },
        "--set=publish.every_s=0.1",
    )
    environment = {
        "PTY_CONTROL": service.addresses["control"],
        "PTY_STATUS": service.addresses["status"],
        "PTY_DETECTOR": f"tcp://{detector}",
        "PTY_ENCODER": f"tcp://{encoder}",
        "PTY_FLAGS": ";".join(SMALL_FLAGS),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    simulated = files("bluesky_queueserver") / "profile_collection_sim"
    permissions = tmp_path / "user_group_permissions.yaml"
    shutil.copy(str(simulated / "user_group_permissions.yaml"), permissions)
    words = [
        *("-m", "bluesky_queueserver.manager.start_manager"),
        *("--startup-script", str(Path(__file__).with_name("queue_startup.py"))),
        *("--existing-plans-devices", str(tmp_path / "existing.yaml")),
        *("--update-existing-plans-devices", "ALWAYS"),
        *("--user-group-permissions", str(permissions)),
        *("--redis-addr", redis.replace("127.0.0.1", "localhost")),
        *("--zmq-control-addr", f"tcp://{control}"),
        *("--zmq-info-addr", f"tcp://{told}"),
    ]
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "manager.log").open("w"))
        port = redis.partition(":")[2]
        for command in (["-c", REDIS.format(port=port)], words):
            process = subprocess.Popen(
                [sys.executable, *command], stdout=log, stderr=log
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        manager = REManagerAPI(
            zmq_control_addr=f"tcp://{control}", zmq_info_addr=f"tcp://{told}"
        )
        stack.callback(manager.close)

        def answers():
            try:
                return manager.status()
            except manager.RequestTimeoutError:
                return None

        wait_for(answers, (tmp_path / "manager.log").read_text(), 60)
        manager.environment_open()
        manager.wait_for_idle(timeout=60)
        assert manager.status()["worker_environment_exists"]
        yield manager, service
        manager.environment_close()
        manager.wait_for_idle(timeout=30)


def test_plans_are_queued_as_json(queue):
    manager, service = queue
    arguments = [
        ("fly_until", {"quality": 0.1, "prepare": {"beam": LONG}}),
        ("fly_ptycho", {"prepare": {"beam": {}}, "md": {"sample": "x"}}),
    ]
    for name, more in arguments:
        item = {
            "item_type": "plan",
            "name": name,
            "args": ["live", ["beam"]],
            "kwargs": json.loads(json.dumps(more)),
        }
        assert manager.item_add(item)["success"]
    manager.queue_start()
    manager.wait_for_idle(timeout=60)
    history = manager.history_get()["items"]
    results = [item["result"] for item in history]
    assert [r["exit_status"] for r in results] == ["completed"] * 2, results
    ends = [service.ended() for _ in results]
    assert 20 < ends[0]["frames"]["received"] < 500
    assert ends[1]["frames"]["received"] == 144
    last = service.status()["last"]
    assert last["raw_uid"] == results[1]["run_uids"][0]
