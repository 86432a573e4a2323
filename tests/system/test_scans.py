"""One scan after another, and scans that end otherwise than they should."""

import pytest

from tests.system.conftest import FRAMES, is_whole

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]


def test_three_scans_without_a_restart(simulate, serve):
    _, endpoints = simulate("--set=scan.scans=3", "--set=scan.gap_s=0.2")
    service = serve(endpoints, "--scans=3")
    ended = [service.ended() for _ in range(3)]
    assert service.child.ends() == 0, service.child.said()
    assert len({e["run"] for e in ended}) == len({e["scan"] for e in ended}) == 3
    for scan in ended:
        assert scan["frames"]["paired"] == FRAMES, scan
        result = service.result(scan)
        assert result.scan == scan["scan"]
        is_whole(result)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [("aborted", "aborted"), ("quiet", "timed out")],
)
def test_a_scan_that_stops_short(simulate, serve, ending, reason):
    _, endpoints = simulate(
        "--set=stop_after=100",
        f"--set=ending={ending}",
        "--set=scan.scans=2",
        "--set=scan.gap_s=2.5",
    )
    service = serve(endpoints, "--set=scan.idle_timeout_s=1")
    for number in range(2):
        ended = service.ended()
        assert ended["reason"] == reason, service.child.said()
        assert ended["frames"]["paired"] == 100
        is_whole(service.result(ended), 100)
        assert service.status()["finished_scans"] == number + 1


def test_a_new_scan_ends_one_that_went_quiet(simulate, serve):
    _, endpoints = simulate(
        "--set=stop_after=100",
        "--set=ending=quiet",
        "--set=scan.scans=2",
        "--set=scan.gap_s=0.5",
    )
    service = serve(endpoints, "--set=scan.idle_timeout_s=3", "--set=scan.late_s=1")
    assert [service.ended()["reason"] for _ in range(2)] == ["superseded", "timed out"]
    assert service.metric("frames_received_total") == 200
