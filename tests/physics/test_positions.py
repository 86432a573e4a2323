import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptystream.physics.positions import Positions, matrix, parameters

CENTRE = (20.0, -5.0)


def scan(n: int = 30, seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.rand(n, 2, generator=made) * 50 + torch.tensor([0.0, -30.0])


def worn(n: int = 30, seed: int = 1) -> Positions:
    """Positions with affine and offsets that overlap."""
    made = torch.Generator().manual_seed(seed)
    positions = Positions(n, centre_px=CENTRE)
    with torch.no_grad():
        positions.affine.copy_(torch.tensor([0.02, -0.01, 0.03, 0.05]))
        tilt = (scan(n) - scan(n).mean(0)) @ torch.tensor([[0.01, 0.02], [-0.03, 0.0]])
        offset = torch.randn(n, 2, generator=made) * 0.3 + 0.7
        positions.offset_px.copy_(offset + tilt)
    return positions


small = st.floats(-0.3, 0.3)


@given(small, small, small, small)
def test_a_matrix_gives_its_parameters_back(scale_y, scale_x, shear, rotation):
    affine = torch.tensor([scale_y, scale_x, shear, rotation], dtype=torch.float64)
    torch.testing.assert_close(parameters(matrix(affine)), affine)


def test_the_parameters_mean_what_they_are_called():
    scale = matrix(torch.tensor([math.log(2), math.log(3), 0.0, 0.0]))
    torch.testing.assert_close(scale, torch.diag(torch.tensor([2.0, 3.0])))
    turned = matrix(torch.tensor([0.0, 0.0, 0.0, math.pi / 2]))
    torch.testing.assert_close(
        turned, torch.tensor([[0.0, -1.0], [1.0, 0.0]]), rtol=0, atol=1e-6
    )
    sheared = matrix(torch.tensor([0.0, 0.0, 0.2, 0.0]))
    torch.testing.assert_close(sheared, torch.tensor([[1.0, 0.2], [0.0, 1.0]]))


def test_fresh_positions_are_the_nominal_ones():
    positions, frame = Positions(30, centre_px=CENTRE), torch.arange(30)
    torch.testing.assert_close(positions(frame, scan()), scan())


def test_offsets_go_to_their_own_frames():
    positions = Positions(5)
    with torch.no_grad():
        positions.offset_px[3] = torch.tensor([1.0, -2.0])
    nominal = torch.zeros(2, 2)
    got = positions(torch.tensor([3, 1]), nominal)
    torch.testing.assert_close(got, torch.tensor([[1.0, -2.0], [0.0, 0.0]]))


def test_the_centre_does_not_move_under_the_affine():
    positions = Positions(1, centre_px=CENTRE)
    with torch.no_grad():
        positions.affine.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    centre = torch.tensor([CENTRE])
    torch.testing.assert_close(positions(torch.tensor([0]), centre), centre)


def test_fixing_the_gauge_moves_all_frames_alike():
    positions, frame = worn(), torch.arange(30)
    before = positions(frame, scan()).detach()
    positions.fix_gauge(frame, scan())
    moved = positions(frame, scan()).detach() - before
    torch.testing.assert_close(moved, moved[:1].expand(30, 2), rtol=0, atol=1e-4)


def test_a_fixed_gauge_leaves_offsets_without_mean_and_tilt():
    positions, frame = worn(), torch.arange(30)
    positions.fix_gauge(frame, scan())
    offset, lever = positions.offset_px.detach(), scan() - scan().mean(0)
    assert offset.mean(0).abs().max() < 1e-5
    assert (torch.linalg.pinv(lever) @ offset).abs().max() < 1e-5
    assert offset.std() > 0.1
    again = positions.affine.detach().clone()
    positions.fix_gauge(frame, scan())
    torch.testing.assert_close(positions.affine.detach(), again)


def test_frames_not_seen_are_left_alone():
    positions, seen = worn(), torch.arange(10)
    before = positions.offset_px.detach().clone()
    positions.fix_gauge(seen, scan()[:10])
    torch.testing.assert_close(positions.offset_px[10:].detach(), before[10:])


def test_one_line_of_frames_leaves_the_rest_of_the_affine():
    positions, frame = Positions(10), torch.arange(10)
    line = torch.stack([torch.zeros(10), torch.arange(10.0)], 1)
    with torch.no_grad():
        positions.offset_px[:, 1] = 0.1 * torch.arange(10.0)
    positions.fix_gauge(frame, line)
    assert positions.offset_px.abs().max() < 1e-5
    expected = torch.tensor([0.0, 0.0953, 0.0, 0.0])  # log 1.1
    torch.testing.assert_close(positions.affine.detach(), expected, rtol=0, atol=1e-4)


def test_descent_finds_a_known_distortion():
    truth, frame = worn(), torch.arange(30)
    with torch.no_grad():
        truth.offset_px.sub_(truth.offset_px.mean(0))
        target = truth(frame, scan())
    positions = Positions(30, centre_px=CENTRE)
    adam = torch.optim.Adam(
        [
            {"params": [positions.affine], "lr": 1e-2},
            {"params": [positions.offset_px], "lr": 0.1},
        ]
    )
    for _ in range(200):
        adam.zero_grad()
        (positions(frame, scan()) - target).square().sum().backward()
        adam.step()
    assert (positions(frame, scan()) - target).abs().max() < 1e-2
    positions.fix_gauge(frame, scan())
    truth.fix_gauge(frame, scan())
    torch.testing.assert_close(
        positions.affine.detach(), truth.affine.detach(), rtol=0, atol=1e-3
    )


def test_gradients_agree_with_finite_differences():
    affine = torch.tensor([0.1, -0.2, 0.3, 0.4]).double().requires_grad_()
    assert torch.autograd.gradcheck(matrix, [affine])


def test_a_frame_beyond_the_memory_is_an_error():
    with pytest.raises(IndexError):
        Positions(4)(torch.tensor([4]), torch.zeros(1, 2))
