"""The plans from a real queue server, with nothing but JSON for arguments."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.publish.test_documents_live import free_addresses
from tests.system.conftest import wait_for
from tests.system.test_bluesky import LONG, SMALL_FLAGS

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]
REDIS = (
    "from fakeredis import TcpFakeServer;"
    "TcpFakeServer(('127.0.0.1', {port}), server_type='redis').serve_forever()"
)


MANAGER = "from bluesky_queueserver.manager.start_manager import *; start_manager()"


class Manager:
    """Asks the queue server, each time over a socket of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(self.address)
            socket.send_json({"method": method, "params": params})
            return socket.recv_json() if socket.poll(5000) else {}

    def idle(self) -> None:
        """Return once it does nothing any more."""
        wait_for(lambda: self.ask("status").get("manager_state") == "idle", "idle", 60)


@pytest.fixture
def queue(serve, tmp_path, monkeypatch):
    """A queue server's client, and the service that its devices talk to."""
    pytest.importorskip("bluesky_queueserver")
    pytest.importorskip("fakeredis")
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
        *("-c", MANAGER),
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
        manager = Manager(f"tcp://{control}")
        wait_for(lambda: manager.ask("ping"), f"the manager: {log.name}", 60)
        assert manager.ask("environment_open")["success"]
        manager.idle()
        assert manager.ask("status")["worker_environment_exists"]
        yield manager, service
        manager.ask("environment_close")
        manager.idle()


@pytest.mark.slow
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
        user = {"user": "test", "user_group": "primary"}
        added = manager.ask("queue_item_add", item=item, **user)
        assert added["success"], added
    assert manager.ask("queue_start")["success"]
    manager.idle()
    history = manager.ask("history_get")["items"]
    results = [item["result"] for item in history]
    assert [r["exit_status"] for r in results] == ["completed"] * 2, results
    ends = [service.ended() for _ in results]
    assert 20 < ends[0]["frames"]["received"] < 500
    assert ends[1]["frames"]["received"] == 144
    last = service.status()["last"]
    assert last["raw_uid"] == results[1]["run_uids"][0]
