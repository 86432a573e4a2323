"""A plan's line to a service that wants keys."""

import asyncio

import pytest

from ptystream.bluesky.callbacks import Announcer
from ptystream.bluesky.link import ServiceLink
from ptystream.bluesky.refine import newest_picture
from ptystream.errors import ConfigError, StoppedError
from ptystream.publish.control import ControlServer
from ptystream.publish.images import Picture

STATE = {"run": None, "scan": None, "state": "idle"}


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def server(keyring, asked):
    commands = {"stop": lambda args: asked.append("stop")}
    commands["configure"] = lambda args: asked.append("configure")
    with ControlServer(
        commands, lambda: STATE, heartbeat_s=0.1, curve=keyring.admission()
    ) as server:
        yield server


def test_a_link_asks_as_its_key_allows(server, keyring, asked):
    async def ask(name: str) -> None:
        addresses = server.control_address, server.status_address
        link = ServiceLink(*addresses, keys=keyring.of(name))
        await link.connect(10)
        try:
            await link.ask("stop")
        finally:
            await link.close()

    asyncio.run(ask("operator"))
    assert asked == ["stop"]
    with pytest.raises(ConfigError, match="may only look"):
        asyncio.run(ask("viewer"))
    assert asked == ["stop"]


@pytest.mark.parametrize("who", [("stranger", "service"), None], ids=str)
def test_a_link_that_is_refused_says_so(server, keyring, who):
    async def connect() -> None:
        keys = None if who is None else keyring.of(*who)
        link = ServiceLink(server.control_address, server.status_address, keys=keys)
        await link.connect(1)

    with pytest.raises(StoppedError, match="are the CURVE keys right"):
        asyncio.run(connect())


def test_a_picture_comes_with_the_right_key_only(server, keyring):
    server.show(Picture((), {"run": "r"}))
    address = server.preview_address
    got = asyncio.run(newest_picture(address, 10, keyring.of("viewer")))
    assert got.about["run"] == "r"
    for keys in (keyring.of("stranger"), None):
        with pytest.raises(StoppedError, match="no preview"):
            asyncio.run(newest_picture(address, 0.5, keys))


def test_an_announcer_has_keys_too(server, keyring, asked):
    with Announcer(server.control_address, keys=keyring.of("operator")) as announcer:
        announcer("start", {"uid": "u", "time": 0.0})
    assert asked == ["configure"]
