"""A derived run through a real Bluesky proxy, out of a real service."""

import signal

import event_model
import pytest

from tests.publish.test_documents_live import LISTENER, free_addresses
from tests.system.beam import Beam
from tests.system.conftest import Serving
from tests.system.processes import Child

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]
PROXY = ("-c", "from bluesky.commandline.zmq_proxy import main; main()")


@pytest.fixture
def listener(tmp_path):
    """Start proxy and listener; return the listener and the proxy's inward address."""
    inward, outward = free_addresses(2)
    addresses = ("--in-address", inward, "--out-address", outward)
    heard = (str(LISTENER), outward, "an")
    with (
        Child(tmp_path, *addresses, python=PROXY),
        Child(tmp_path, python=heard) as listener,
    ):
        assert listener.line()[0] == "ready"
        yield listener, inward


def run_of(listener: Child, uid: str) -> list[tuple[str, dict]]:
    """Return the documents of the run from its start to its stop."""
    documents: list[tuple[str, dict]] = []
    while not documents or documents[-1][0] != "stop":
        name, document = listener.line()
        if documents or (name == "start" and document["uid"] == uid):
            documents.append((name, document))
    return documents


def test_a_scan_becomes_a_derived_run(listener, tmp_path):
    heard, inward = listener
    with Beam() as beam:
        flags = beam.serve_flags(tmp_path, f"--set=publish.documents={inward}")
        with Child(tmp_path, "serve", *flags) as child:
            service = Serving(child, tmp_path)
            beam.wait()
            service.ended(scan=beam.scan())  # the bus may miss the start of its first
            scan = beam.start(meta={**beam.experiment.meta, "uid": "raw-run-7"})
            beam.expose(scan, 0, len(beam))
            beam.end(scan)
            ended = service.ended(scan=scan)
            documents = run_of(heard, ended["run"])
            child.send(signal.SIGTERM)
            assert child.ends() == 0, child.said()
    names = [name for name, _ in documents]
    assert names[:2] == ["start", "descriptor"]
    assert names.count("event") >= 1
    for name, document in documents:
        kind = event_model.DocumentNames[name]
        event_model.schema_validators[kind].validate(document)
    assert documents[0][1]["original_run_uid"] == "raw-run-7"
    events = [document for name, document in documents if name == "event"]
    assert [e["seq_num"] for e in events] == list(range(1, len(events) + 1))
    last = events[-1]["data"]
    assert last["frames_received"] == len(beam)
    assert last["held_out_error"] < 0.3 * last["flat_error"]
    assert documents[-1][1]["exit_status"] == "success"
