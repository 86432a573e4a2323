"""A scan's state: through its file into another run, whatever learns; or refused."""

import hashlib
import resource
import struct
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import FileFormatError
from ptystream.models.field import Box
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import RunInfo
from ptystream.recon import state, tree
from ptystream.recon.hold import still
from ptystream.recon.state import Learned
from ptystream.service import checkpoint, resume
from ptystream.service.checkpoint import TRIES, CheckpointSink, decode, encode, read
from ptystream.service.resume import Recovery, settings_of
from ptystream.service.scan import Extras, ScanRun
from tests.dangers import dangers
from tests.recon.small_scan import SmallScan
from tests.service.exposures import START, config, exposures
from tests.system.conftest import wait_for

EXTRAS = Extras(probe=SmallScan().probe[None])
QUICK = ("object.width=16", "object.hidden=1", "hashgrid.levels=4", "object.filters=4")
FIELDS = {
    "smooth": ("object.field=smooth",),
    "plain": ("object.field=pixels", "probe.modes=2"),
    "won by plain": ("object.contest_steps=4",),
    "siren": ("object.field=siren",),
    "siren, both papers' Adam": ("object.field=siren", "engine.adam=published"),
    "multires": ("object.field=multires",),
    "hash grids": ("object.field=hashgrid", "probe.field=hashgrid"),
    "unet": ("object.field=unet", "object.warmup_steps=5", "object.pretrain_steps=2"),
    "slices": ("object.slices=2", "physics.slice_m=1e-6", "physics.background=true"),
    "nuisances": ("nuisance.positions=both", "nuisance.intensity=true"),
    "halves": ("quality.halves=true",),
}


def begun(*flags: str, steps: int = 16, learned: Learned | None = None) -> ScanRun:
    """Return a run that has taken all exposures and so many steps."""
    told = config(*QUICK, "start.scales=1", "nuisance.after_steps=0", *flags)
    run = ScanRun(START, told, run="run-1", extras=EXTRAS, learned=learned)
    given = exposures()
    for exposure in given if learned is None else given[::-1]:
        run.add(exposure)
    while run.recon is not None and run.recon.engine.steps < steps:
        assert run.step()
    return run


def shown(run: ScanRun) -> list[np.ndarray]:
    """Return all that is to be the same again."""
    recon = run.recon
    assert recon is not None
    box = Box(0, 0, 44, 44)
    parts = [*(half.field for half in recon.halves.both)] if recon.halves else []
    with still(recon.object, recon.probe):
        made = [part.window(box) for part in (recon.object, *parts)]
        made.append(recon.probe.window(Box(0, 0, 24, 24)))
    if recon.nuisance is not None:
        order = np.argsort(recon.store.index[: recon.store.frames])
        rows = recon.nuisance.rows().values()
        made += [row[order] for row in rows] + [recon.nuisance.positions.affine]
    return [tensor.detach().numpy().copy() for tensor in made]


@pytest.mark.parametrize("flags", FIELDS.values(), ids=FIELDS.keys())
def test_a_run_goes_on_where_another_stood(flags):
    before = begun(*flags)
    state = before.learned()
    assert state is not None
    kept = shown(before)
    for _ in range(5):  # what is written must not follow the engine
        before.step()
    again = begun(*flags, steps=0, learned=Learned(decode(whole(state))))
    for was, now in zip(kept, shown(again), strict=True):
        np.testing.assert_array_equal(now, was)
    assert again.recon is not None
    assert again.recon.engine.steps == state["steps"]
    assert again.recon.exposures.gauge == tuple(state["gauge"])
    assert again.step()
    assert np.isfinite(shown(again)[0]).all()


def test_the_optimisers_go_on_too():
    """The step after is the same, but for which exposures it takes: all of them."""
    flags = ("object.field=smooth", "engine.batch=64", "engine.held_out=0")
    before = begun(*flags)
    again = begun(*flags, steps=0, learned=Learned(decode(whole(before.learned()))))
    before.step()
    again.step()
    for was, now in zip(shown(before), shown(again), strict=True):
        np.testing.assert_allclose(now, was, atol=1e-5)


def test_there_is_nothing_to_go_on_from_before_the_first_step():
    run = ScanRun(START, config(), run="run-1", extras=EXTRAS)
    assert run.learned() is None
    run.add(exposures()[0])
    assert run.learned() is None


def test_a_state_of_another_kind_is_refused_and_the_scan_begins_anew(caplog):
    state = begun("object.field=smooth").learned()
    again = begun("object.field=siren", steps=5, learned=Learned(state))
    assert "in place of" in caplog.text
    assert again.recon is not None
    assert again.recon.engine.steps == 5


STATE = {"run": "r", "numbers": [1, 2.5, None], "array": np.eye(3, dtype=np.complex64)}


def whole(state: dict) -> bytes:
    return b"".join(encode(state))


def with_version(raw: bytes, version: int) -> bytes:
    return raw[:8] + struct.pack("<I", version) + raw[12:]


def test_what_is_written_is_read(tmp_path):
    sink = CheckpointSink(tmp_path / "new")
    sink.start(info("r"))
    sink.write(STATE)
    got = read(sink.path("r"))
    assert got["numbers"] == STATE["numbers"]
    np.testing.assert_array_equal(got["array"], STATE["array"])
    assert got["array"].dtype == np.complex64
    assert sink.stats.size_bytes == sink.path("r").stat().st_size


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: b"", "no checkpoint of ptystream"),
        (lambda raw: b"\x89HDF" + raw[4:], "no checkpoint of ptystream"),
        (lambda raw: with_version(raw, 0), "version 0, expected 1"),
        (lambda raw: with_version(raw, 2), "version 2, expected 1"),
        (lambda raw: raw[:-1], "checksum"),
        (lambda raw: raw + b"\x00", "checksum"),
    ],
)
def test_a_file_that_is_no_whole_checkpoint_of_ours_says_why(tmp_path, change, said):
    path = tmp_path / "x.checkpoint"
    path.write_bytes(change(whole(STATE)))
    with pytest.raises(FileFormatError, match=said) as raised:
        read(path)
    assert str(path) in str(raised.value)


@given(st.binary(max_size=200), st.integers(0, 199))
def test_no_change_goes_unnoticed(noise: bytes, at: int):
    raw = whole(STATE)
    changed = raw[:at] + noise + raw[at + len(noise) :]
    if changed != raw:
        with pytest.raises(FileFormatError):
            decode(changed)


def summed(tree: bytes, arrays: bytes = b"") -> bytes:
    digest = hashlib.sha256(tree + arrays).digest()
    return struct.pack("<8sIQ32s", b"PTYSCKPT", 1, len(tree), digest) + tree + arrays


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_a_checksum_does_not_make_it_ours(tree: bytes, arrays: bytes):
    """Whoever can write there can sum as well: still nothing but a refusal."""
    try:
        decode(summed(tree, arrays))
    except FileFormatError:
        return


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (["<f4", [2], 1], "beyond the end"),
        (["<f4", [1 << 40, 1 << 40], 0], "beyond the end"),
        (["<f4", [-1], 0], ">= 0"),
        (["<f4", [1], -4], ">= 0"),
        (["|O", [1], 0], "an array of object"),
        (["<f4"], "damaged"),
    ],
)
def test_an_array_lies_within_the_file(place, said):
    array = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(place))
    with pytest.raises(FileFormatError, match=said):
        decode(summed(msgspec.msgpack.encode({"a": array}), bytes(8)))


def info(run: str) -> RunInfo:
    return RunInfo(run, "scan-1", 0.0)


def test_a_run_that_is_over_leaves_nothing(tmp_path):
    sink = CheckpointSink(tmp_path)
    sink.write(STATE)
    sink.forget(info("r"))
    sink.write(STATE)  # the one that was on its way
    assert sink.found() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"software": "0.0.1"}, "of ptystream 0.0.1"),
        ({"settings": {**settings_of(config()), "engine": {}}}, "settings of engine"),
        ({"start": {"scan": 3}}, "lacks what it should hold"),
        ({"settings": {}}, "lacks what it should hold"),
        ({"started_s": "soon"}, "lacks what it should hold"),
        ({}, ""),
    ],
)
def test_a_state_of_another_service_is_put_aside(tmp_path, change, said):
    told = config(f"checkpoint.tape={tmp_path / 'no.tape'}")
    sink, written = CheckpointSink(tmp_path), []
    recovery = Recovery(told, sink, written.append)
    recovery.opened(ScanRun(START, told, run="run-1", extras=EXTRAS))
    state = {**written[0].args[0], **change}
    sink.write(state)
    anew = Recovery(told, sink)
    resumed = anew.resume()
    anew.closed()
    if said:
        assert resumed is None
        assert said in anew.refused
        assert sink.found() == []
        assert len(list(tmp_path.glob("*.refused"))) == 1
    else:
        assert resumed is not None
        assert (resumed.start, resumed.run) == (START, "run-1")


def test_a_file_from_which_every_start_ends_is_put_aside(tmp_path):
    told = config(f"checkpoint.tape={tmp_path / 'no.tape'}")
    sink, written = CheckpointSink(tmp_path), []
    Recovery(told, sink, written.append).opened(
        ScanRun(START, told, run="run-1", extras=EXTRAS)
    )

    def started() -> Recovery:
        recovery = Recovery(told, CheckpointSink(tmp_path))
        resumed = recovery.resume()
        recovery.closed()
        assert (resumed is None) == bool(recovery.refused)
        return recovery

    written[0]()
    for _ in range(TRIES):
        assert not started().refused
    written[0]()  # it came so far as to leave another: all begins anew
    assert len(sink.found()) == 1
    for _ in range(TRIES):
        assert not started().refused
    assert f"{TRIES} starts went on from it" in started().refused
    assert sink.found() == []
    assert len(list(tmp_path.glob("*.refused"))) == 1


def test_a_full_disk_costs_a_checkpoint_and_no_more(tmp_path):
    """The last whole one stays; the sink's thread counts the failure."""
    sink = CheckpointSink(tmp_path)
    sink.write(STATE)
    before = sink.path("r").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SinkThread(sink) as thread:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            thread.soon(partial(sink.write, {**STATE, "more": np.zeros(5000)}))
            wait_for(lambda: thread.stats().failures == 1, "the failure is counted")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sink.path("r").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.checkpoint"]


@pytest.mark.parametrize("module", [checkpoint, resume, state, tree])
def test_nothing_in_a_checkpoint_can_run(module):
    assert dangers(Path(module.__file__).read_text()) == []
