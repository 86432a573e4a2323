import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptystream.service.reach import Reach

PIXEL_M = (10e-9, 20e-9)


def reach(most_mpx: int = 1) -> Reach:
    return Reach((1e-3, -2e-3), PIXEL_M, (64, 64), most_mpx)


def test_it_grows_up_to_its_area_and_no_further():
    grows = reach()
    assert grows.takes((1e-3, -2e-3))
    assert grows.takes((1e-3 + 930 * 10e-9, -2e-3))
    assert grows.takes((1e-3, -2e-3 + 930 * 20e-9))
    assert not grows.takes((1e-3 - 100 * 10e-9, -2e-3))


def test_a_refused_place_costs_nothing():
    grows = reach()
    assert not grows.takes((1e3, 1e3))
    assert grows.takes((1e-3 + 900 * 10e-9, -2e-3))


@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))))
def test_the_object_never_exceeds_the_bound(places):
    grows = reach()
    taken = [np.array([1e-3, -2e-3])]
    taken += [np.array(p) for p in places if grows.takes(p)]
    extent = np.ptp(taken, axis=0) / PIXEL_M + 64
    assert extent.prod() <= 1e6 * (1 + 1e-9)
