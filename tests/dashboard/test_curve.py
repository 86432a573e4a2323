"""A dashboard of a service that wants keys."""

import pytest

from ptystream.dashboard.feed import Addresses, Feed
from ptystream.publish.control import ControlServer
from tests.dashboard.conftest import TOKEN, a_picture, until

STATE = {"run": "r", "scan": "s", "state": "live", "finished_scans": 1}


@pytest.fixture
def held() -> list[str]:
    return []


@pytest.fixture
def server(keyring, held):
    with ControlServer(
        {
            "past": lambda args: {"scans": [{"run": "before"}]},
            "hold": lambda args: held.append("hold"),
        },
        lambda: STATE,
        heartbeat_s=0.1,
        curve=keyring.admission(),
        looks=("past",),
    ) as server:
        server.show(a_picture())
        yield server


def addresses(server, keys) -> Addresses:
    bound = server.control_address, server.status_address, server.preview_address
    return Addresses(*bound, keys)


def test_a_reader_sees_status_picture_and_past_scans(server, keyring):
    with Feed(addresses(server, keyring.of("viewer"))) as feed:
        heard = until(lambda: (h := feed.heard()).past and h.picture and h, "all of it")
    assert heard.status["scan"] == "s"
    assert heard.past[0]["run"] == "before"


def test_a_stranger_sees_nothing(server, keyring):
    with Feed(addresses(server, keyring.of("stranger"))) as feed:
        until(lambda: server.stats().turned_away >= 2, "refused handshakes")
        assert feed.heard().silent_s is None
        assert feed.heard().picture is None


@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_an_order_needs_a_controllers_key_beside_the_token(
    server, keyring, held, serve_page, who
):
    page = serve_page(addresses(server, keyring.of(who)), token=TOKEN)
    until(lambda: page.state().get("here"), "a state", 30)
    page.post("order/hold", Authorization=f"Bearer {TOKEN}")
    assert held == (["hold"] if who == "operator" else [])
