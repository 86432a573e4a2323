from hypothesis import given
from hypothesis import strategies as st

from ptystream.ingest.indices import IndexSet

numbers = st.lists(st.integers(0, 60), max_size=80)


@given(numbers)
def test_it_is_a_set(added):
    indices = IndexSet()
    for index in added:
        indices.add(index)
    assert {i for i in range(70) if i in indices} == set(added)


@given(numbers)
def test_neighbours_share_a_run(added):
    indices = IndexSet()
    for index in added:
        indices.add(index)
    kept = set(added)
    assert indices.runs == sum(i - 1 not in kept for i in kept)


@given(st.lists(st.integers(0, 10**6), max_size=200), st.integers(1, 5))
def test_runs_are_bounded_and_no_member_is_forgotten(added, most):
    indices = IndexSet(max_runs=most)
    for index in added:
        indices.add(index)
        assert indices.runs <= most
        assert index in indices
    assert all(index in indices for index in added)
    assert all(i not in indices for i in [-1, 10**6 + 1])


def test_the_lowest_gap_closes_first():
    indices = IndexSet(max_runs=2)
    for index in [10, 20, 30]:
        indices.add(index)
    assert 15 in indices
    assert 25 not in indices
