"""Groups hold every pattern once, and no two that overlap."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import ConfigError
from ptystream.recon.classical.groups import apart

POINTS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=80
)


def groups(points: list[tuple[int, int]], group: int, seed: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return apart(torch.tensor(points), size=16, group=group, random=random)


@given(POINTS, st.integers(1, 6), st.integers(0, 3))
def test_every_pattern_once_and_apart(
    points: list[tuple[int, int]], group: int, seed: int
) -> None:
    made = groups(points, group, seed)
    assert sorted(int(i) for g in made for i in g) == list(range(len(points)))
    for members in made:
        assert len(members) <= group
        places = torch.tensor(points)[members]
        away = (places[:, None] - places).abs().amax(-1)
        assert bool((away + 16 * torch.eye(len(members)) >= 16).all())


def test_groups_fill_up_where_there_is_room() -> None:
    far = [(100 * i, 0) for i in range(40)]
    assert [len(g) for g in groups(far, 4, 0)] == [4] * 10


def test_the_order_is_random_but_the_seeds() -> None:
    points = [(i, i) for i in range(50)]
    first, same, other = (groups(points, 1, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.cat(first), torch.cat(same))
    assert not torch.equal(torch.cat(first), torch.cat(other))


def test_a_group_of_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="group 0"):
        groups([(0, 0)], 0, 0)
