import asyncio

import pytest

from ptystream.bluesky.link import ServiceLink
from ptystream.errors import ConfigError, StoppedError


async def linked(service, heartbeat_s=5.0):
    link = ServiceLink(*service.addresses, heartbeat_s)
    await link.connect(10)
    return link


def test_status_comes_when_it_changes(service):
    async def run():
        link = await linked(service)
        seen = link.count
        service.opens("a")
        while link.latest["raw_uid"] != "a":
            seen = await link.newer(seen)
        await link.close()
        return seen

    assert asyncio.run(run()) > 1


def test_a_service_that_is_not_there_is_an_error():
    async def run():
        link = ServiceLink("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
        try:
            await link.connect(0.2)
        finally:
            await link.close()

    with pytest.raises(StoppedError, match=r"no status from .*:2 for 0.2 s"):
        asyncio.run(run())


def test_a_refusal_comes_in_the_services_own_words(service):
    async def run():
        link = await linked(service)
        try:
            await link.ask("no such")
        finally:
            await link.close()

    with pytest.raises(ConfigError, match="unknown command 'no such'"):
        asyncio.run(run())


def test_what_is_older_than_a_reply_is_not_taken(service):
    async def run():
        link = await linked(service)
        await link.ask("ping")
        before, seq = link.count, link._seq
        old = {**link.latest, "seq": seq - 1, "raw_uid": "of the run before"}
        link._take(old)
        result = link.count == before, link.stale, link.latest["raw_uid"]
        await link.close()
        return result

    assert asyncio.run(run()) == (True, 1, None)


def test_a_service_begun_anew_counts_from_one_and_the_old_one_is_dead(service):
    async def run():
        link = await linked(service)
        old = dict(link.latest)
        link._take({**old, "instance": "new", "seq": 1})
        link._take({**old, "seq": 10**6})
        result = link.latest["instance"]
        await link.close()
        return result

    assert asyncio.run(run()) == "new"


@pytest.mark.parametrize("status", [{}, {"instance": "x", "seq": "no"}])
def test_nonsense_leaves_the_line_open(service, status):
    async def run():
        link = await linked(service)
        seen = link.count
        service.becomes(lag_s=float("nan"))
        await link.newer(seen)
        with pytest.raises((KeyError, ValueError)):
            link._take(status)
        seen = link.count
        service.becomes(step=3)
        await link.newer(seen)
        await link.close()

    asyncio.run(run())


def test_silence_is_noticed_and_the_line_comes_back(service):
    async def run():
        link = await linked(service, heartbeat_s=0.3)
        heard = []
        link.listen(lambda status: heard.append(link.lost))
        address = service.addresses
        service.__exit__()
        await asyncio.sleep(0.1)  # for the last words of the service
        with pytest.raises(StoppedError, match=r"for 0\.3 s"):
            await link.newer(link.count)
        async with asyncio.timeout(5):
            while not link.lost:
                await asyncio.sleep(0.01)
        assert heard[-1] is True
        await link.close()
        return address

    asyncio.run(run())
    service.__enter__()
