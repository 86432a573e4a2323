import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptystream.errors import FileFormatError
from ptystream.tape.counts import count_dtype, to_counts

DTYPES = [
    "u1",
    "<u2",
    ">u2",
    "<u4",
    ">u4",
    "<u8",
    "i1",
    "<i2",
    "<i4",
    "<i8",
    "<f4",
    "<f8",
]


@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [
        ("u1", "|u1"),
        ("i1", "|u1"),
        (">u2", "<u2"),
        ("<i2", "<u2"),
        (">i4", "<u4"),
        ("<i8", "<u4"),
        ("<f2", "<u4"),
        (">f8", "<u4"),
    ],
)
def test_counts_have_three_dtypes(given_dtype: str, expected: str) -> None:
    dtype = count_dtype(np.dtype(given_dtype))
    assert dtype is not None
    assert dtype.str == expected


@pytest.mark.parametrize("dtype", ["c8", "S4", "O", "M8[s]", "?"])
def test_what_is_no_count_has_none(dtype: str) -> None:
    assert count_dtype(np.dtype(dtype)) is None


@given(
    st.sampled_from(DTYPES),
    hnp.arrays(np.int64, (3, 4), elements=st.integers(0, 127)),
)
def test_whole_numbers_keep_their_value(dtype: str, values: np.ndarray) -> None:
    raw = values.astype(dtype)
    wanted = count_dtype(raw.dtype)
    assert wanted is not None
    counts = to_counts(raw, wanted, None, "here")
    assert counts.dtype == wanted
    assert (counts == values).all()
    assert not np.shares_memory(counts, raw)


@given(hnp.arrays(np.float64, (2, 3)), hnp.arrays(bool, (2, 3)))
def test_floats_convert_exactly_or_are_refused(
    raw: np.ndarray, usable: np.ndarray
) -> None:
    whole = np.isfinite(raw) & (raw >= 0) & (raw < 2**32) & (np.trunc(raw) == raw)
    if (usable & ~whole).any():
        with pytest.raises(FileFormatError, match="here: pixel"):
            to_counts(raw, np.dtype("<u4"), usable, "here")
    else:
        counts = to_counts(raw, np.dtype("<u4"), usable, "here")
        assert (counts[whole] == raw[whole]).all()
        assert (counts[~whole] == 0).all()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("<i2", -1), ("<u8", 2**32), ("<f4", 0.5), ("<f4", np.nan), ("<f8", np.inf)],
)
def test_the_bad_pixel_is_named(dtype: str, value: float) -> None:
    raw = np.zeros((3, 3), dtype)
    raw[1, 2] = value
    wanted = count_dtype(raw.dtype)
    assert wanted is not None
    with pytest.raises(FileFormatError, match=r"^x.cxi: pixel \(1, 2\) is .*whole"):
        to_counts(raw, wanted, None, "x.cxi")
