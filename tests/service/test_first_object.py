"""A scan that begins with another result's object."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ptystream.errors import ConfigError, FileFormatError
from ptystream.publish.files import Result, write_result
from ptystream.service.first_object import FirstObject, Seen, first_object
from ptystream.service.offline import Acquired, reconstruct
from ptystream.service.scan import Extras
from tests.recon.small_scan import SmallScan
from tests.service.exposures import PIXEL_M, START, config, exposures

SMALL = SmallScan()
PROBE = SMALL.probe[None].astype(np.complex64)
NOTHING = Seen(torch.from_numpy(PROBE), torch.full((1, 2), -999.0))


def a_result(path: Path, **changes) -> Path:
    values = {
        "object": SMALL.object[None].astype(np.complex64),
        "probe": PROBE,
        "pixel_m": (PIXEL_M, PIXEL_M),
        "origin_m": (0.0, 0.0),
    }
    write_result(path, Result(**(values | changes)))
    return path


def given(path: Path) -> FirstObject:
    found = first_object(config(f"first_object.file={path}"))
    assert found is not None
    return found


def test_without_a_file_there_is_none():
    assert first_object(config()) is None


def test_it_lies_where_its_origin_says(tmp_path):
    path = a_result(tmp_path / "r.h5", origin_m=(-3 * PIXEL_M, 5.1 * PIXEL_M))
    box, values = given(path).placed((PIXEL_M, PIXEL_M), 1, NOTHING)
    assert box == (-3, 5, SMALL.side, SMALL.side)
    np.testing.assert_allclose(values[0], SMALL.object, rtol=1e-6)


def test_another_pixel_or_another_number_of_slices_is_named(tmp_path):
    found = given(a_result(tmp_path / "r.h5"))
    with pytest.raises(ConfigError, match=r"r\.h5: object pixel"):
        found.placed((PIXEL_M, 1.01 * PIXEL_M), 1, NOTHING)
    with pytest.raises(ConfigError, match=r"1 slices, expected object\.slices = 2"):
        found.placed((PIXEL_M, PIXEL_M), 2, NOTHING)


def test_its_amplitude_lets_the_light_of_the_probe_through(tmp_path):
    """Whatever whoever made it gave to the probe; each of two slices takes a half."""
    seen = Seen(torch.from_numpy(PROBE), torch.tensor([[0.0, 0.0], [4.3, 7.8]]))
    passed = []
    for slices, faint in ((1, 1.0), (1, 0.1), (2, 0.1)):
        values = np.repeat(SMALL.object[None] * faint, slices, 0)
        path = a_result(tmp_path / "r.h5", object=values.astype(np.complex64))
        _, made = given(path).placed((PIXEL_M, PIXEL_M), slices, seen)
        light = seen.probe.abs().square()[0]
        power = made.prod(0).abs().square()
        windows = power[:24, :24], power[4:28, 8:32]
        passed += [float(np.mean([(light * w).sum() for w in windows]) / light.sum())]
    assert passed == pytest.approx([1, 1, 1], rel=1e-4)


def test_what_is_no_result_is_named(tmp_path):
    path = tmp_path / "no.h5"
    path.write_text("no")
    with pytest.raises(FileFormatError, match=r"no\.h5"):
        given(path)


@pytest.mark.parametrize(
    ("field", "flags"),
    [
        ("pixels", ()),
        ("auto", ()),
        ("multires", ("object.levels=4",)),
        ("siren", ("object.width=48", "object.hidden=2", "object.scale_px=30")),
        ("hashgrid", ("hashgrid.levels=6", "hashgrid.table=1024")),
        ("unet", ("object.depth=1", "object.filters=8", "object.warmup_steps=0")),
    ],
)
def test_every_field_begins_with_it(tmp_path, field, flags):
    """Before its first step it predicts far better than an empty object would."""
    extras = Extras(probe=PROBE, given_object=given(a_result(tmp_path / "r.h5")))
    told = config(f"object.field={field}", "object.pretrain_steps=120", *flags)
    _, snapshot, _ = reconstruct(
        Acquired(START, exposures(), extras), told, run="r", stop=lambda: True
    )
    assert snapshot is not None
    assert snapshot.step == 1
    error = 2 * snapshot.quality.loss  # of what came first: half a squared difference
    assert error < 0.3 * snapshot.quality.flat_error
