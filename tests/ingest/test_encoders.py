import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.ingest.encoders import Axis, EncoderTable, Track
from ptystream.wire.columns import Columns, Scaling

UM = Scaling(1e-4, 5.0, "um")


def columns(scaling: Scaling | None = None, **values: object) -> Columns:
    """Columns by name; ``__`` stands for a dot."""
    arrays = {n.replace("__", "."): np.array(v, float) for n, v in values.items()}
    scalings = {} if scaling is None else dict.fromkeys(arrays, scaling)
    return Columns("a", 0, arrays, scalings)


def track(y: Axis, x: Axis, rows: Columns, time: str | None = None) -> Track:
    return EncoderTable(y, x, time).track(rows)


def test_counts_become_metres_by_scale_and_offset():
    got = track(
        Axis("INENC3.VAL", -1e-9, 2e-6),
        Axis("INENC2.VAL", 2e-9),
        columns(INENC3__VAL__Value=[1000, 2000], INENC2__VAL__Value=[10, 20]),
    )
    np.testing.assert_allclose(got.mean_m, [[1e-6, 20e-9], [0, 40e-9]], atol=1e-20)
    assert got.start_m is None
    assert got.end_m is None
    assert not got.gated


@pytest.mark.parametrize(
    ("units", "metres"), [("m", 1), ("mm", 1e-3), ("um", 1e-6), ("nm", 1e-9)]
)
def test_without_a_scale_the_boxs_own_is_taken(units, metres):
    rows = columns(Scaling(1e-4, 5.0, units), A__Value=[10], B__Value=[0])
    got = track(Axis("A"), Axis("B", offset_m=1.0), rows)
    expected = [[(10 * 1e-4 + 5) * metres, 5 * metres + 1]]
    np.testing.assert_allclose(got.mean_m, expected)


@pytest.mark.parametrize("scaling", [None, Scaling(1, 0, ""), Scaling(1, 0, "deg")])
def test_without_any_unit_of_length_the_setting_is_asked_for(scaling):
    with pytest.raises(DecodeError, match=r"'A'.*scale_m"):
        track(Axis("A"), Axis("B"), columns(scaling, A__Value=[1], B__Value=[1]))


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(DecodeError, match=r"'INENC9.VAL'.*INENC1.VAL.Value"):
        track(
            Axis("INENC9.VAL", 1.0),
            Axis("INENC1.VAL", 1.0),
            columns(INENC1__VAL__Value=[1]),
        )


def test_a_mean_and_a_difference_are_a_whole_exposure():
    got = track(
        Axis("Y", 1.0),
        Axis("X", -1.0),
        columns(Y__Mean=[10, 20], Y__Diff=[4, -4], X__Mean=[1, 2], X__Diff=[2, 2]),
    )
    assert got.gated
    np.testing.assert_array_equal(got.mean_m, [[10, -1], [20, -2]])
    np.testing.assert_array_equal(got.start_m, [[8, 0], [22, -1]])
    np.testing.assert_array_equal(got.end_m, [[12, -2], [18, -3]])


@given(
    middle=st.lists(st.integers(-1000, 1000), min_size=2, max_size=20, unique=True),
    half=st.integers(1, 5),
    scale=st.sampled_from([1.0, -1.0]),
    cut=st.integers(1, 19),
)
def test_a_span_goes_where_the_means_go_however_the_rows_are_cut(
    middle, half, scale, cut
):
    going = sorted(middle)
    mean = np.array(going, float)
    table = EncoderTable(Axis("A", scale), Axis("A", scale))
    for part in mean[:cut], mean[cut:]:
        if len(part) < 1 + (part is mean[:cut]):
            continue
        got = table.track(columns(A__Mean=part, A__Min=part - half, A__Max=part + half))
        if len(part) > 1 or part[0] != mean[0]:
            np.testing.assert_allclose(got.start_m[:, 0], scale * (part - half))
            np.testing.assert_allclose(got.end_m[:, 0], scale * (part + half))


def test_the_last_scan_does_not_tell_where_this_one_goes():
    table = EncoderTable(Axis("A", 1.0), Axis("A", 1.0))
    table.track(columns(A__Mean=[100.0], A__Min=[99.0], A__Max=[101.0]))
    table.begin()
    got = table.track(columns(A__Mean=[0.0, 5.0], A__Min=[-1, 4], A__Max=[1, 6]))
    np.testing.assert_array_equal(got.start_m[:, 0], [-1, 4])


def test_min_and_max_without_a_mean_give_their_middle():
    got = track(Axis("A", 1.0), Axis("A", 1.0), columns(A__Min=[0, 10], A__Max=[4, 14]))
    np.testing.assert_array_equal(got.mean_m[:, 0], [2, 12])
    assert got.gated


def test_one_capture_can_be_asked_for():
    rows = columns(A__Value=[7], A__Mean=[5], A__Diff=[2])
    got = track(Axis("A.Value", 1.0), Axis("A.Mean", 1.0), rows)
    np.testing.assert_array_equal(got.mean_m, [[7, 5]])
    assert got.start_m is None


def test_a_name_that_the_beamline_gave():
    got = track(
        Axis("stage_y", 1.0), Axis("stage.x", 1.0), columns(stage_y=[3], stage__x=[4])
    )
    np.testing.assert_array_equal(got.mean_m, [[3, 4]])
    assert not got.gated


@pytest.mark.parametrize("kind", ["Diff", "Sum", "Min"])
def test_a_capture_that_says_no_place_is_refused(kind):
    rows = Columns("a", 0, {f"A.{kind}": np.zeros(1)})
    with pytest.raises(DecodeError, match="expected Value, Mean"):
        track(Axis("A", 1.0), Axis("A", 1.0), rows)


def test_time_stamps_are_found_and_scaled():
    rows = columns(
        Scaling(8.0, 0, "ns"), A__Value=[1, 2], PCAP__TS_TRIG__Value=[0, 125]
    )
    axis = Axis("A", 1.0)
    np.testing.assert_allclose(track(axis, axis, rows).time_s, [0, 1e-6])
    assert track(axis, axis, rows, "PCAP.TS_END").time_s is None
    told = columns(A__Value=[1, 2], PCAP__TS_TRIG__Value=[0.5, 0.75])
    assert track(axis, axis, told).time_s.tolist() == [0.5, 0.75]
    clicks = columns(Scaling(1, 0, "deg"), A__Value=[1], PCAP__TS_TRIG__Value=[5])
    assert track(axis, axis, clicks).time_s is None
    np.testing.assert_allclose(track(axis, axis, rows, "A").time_s, [8e-9, 16e-9])


def test_rows_of_an_empty_gate_are_not_finite():
    got = track(
        Axis("A", 1.0), Axis("B", 1.0), columns(A__Mean=[np.nan, 1], B__Mean=[1, 1])
    )
    assert np.isfinite(got.mean_m).all(axis=1).tolist() == [False, True]


def test_a_monitor_comes_along_in_counts():
    rows = columns(UM, A__Value=[1, 2], B__Value=[3, 4], I0__Mean=[90, 110])
    table = EncoderTable(Axis("A"), Axis("B"), monitor="I0")
    np.testing.assert_array_equal(table.track(rows).monitor, [90, 110])
    assert EncoderTable(Axis("A"), Axis("B")).track(rows).monitor is None
    with pytest.raises(DecodeError, match="no encoder column 'I1'"):
        EncoderTable(Axis("A"), Axis("B"), monitor="I1").track(rows)
