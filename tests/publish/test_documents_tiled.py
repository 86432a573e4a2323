"""Bluesky's own Tiled writer takes the derived run's documents."""

import math

import orjson
import pytest

from ptystream.publish.documents import DerivedRun
from ptystream.publish.documents_schema import EVENT, loads
from ptystream.publish.sink import FrameCounts, RunEnd

pytest.importorskip("tiled.server")
pytest.importorskip("bluesky_tiled_plugins")
import dask.config
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from .tiled_server import KEY, TiledProcess

END = RunEnd("complete", "converged", 1.0)


@pytest.fixture(scope="module")
def server():
    with TiledProcess() as process:
        yield process


@pytest.mark.system
@pytest.mark.parametrize("through_the_bus", [False, True], ids=["direct", "as JSON"])
def test_a_derived_run_is_written_and_read_back(
    server, info, snapshot, through_the_bus
):
    run = DerivedRun(
        info(f"derived-{through_the_bus}", uid="raw-uid", sample="siemens")
    )
    documents = [run.start()]
    for step in (1, 2, 3):
        documents += run.update(snapshot(step=step), FrameCounts(received=step))
    documents += run.stop(snapshot(step=4), FrameCounts(received=4), END)
    if through_the_bus:
        documents = [(n, loads(orjson.dumps(d))) for n, d in documents]
    with dask.config.set(scheduler="synchronous"):
        root = from_uri(server.uri, api_key=KEY)
        try:
            writer = TiledWriter(root, batch_size=1)
            for name, document in documents:
                writer(name, document)
            written = root[f"derived-{through_the_bus}"]
            assert written.metadata["start"]["original_run_uid"] == "raw-uid"
            assert written.metadata["stop"]["exit_status"] == "success"
            data = written["recon"].read()
            assert data["step"].values.tolist() == [1, 2, 3, 4]
            assert data["held_out_error"].values.tolist() == [0.25] * 4
            assert all(math.isnan(x) for x in data["flat_error"].values)
            assert data["object_rows"].values.tolist() == [40] * 4
            kinds = {key.name: data[key.name].dtype.kind for key in EVENT}
            assert kinds == {key.name: key.numpy[1] for key in EVENT}
        finally:
            root.context.close()
