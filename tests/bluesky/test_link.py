import asyncio
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from ptystream.bluesky.link import ServiceLink
from ptystream.errors import ConfigError, StoppedError
from tests.bluesky.conftest import Scripted


async def linked(service, *patience_s):
    link = ServiceLink(*service.addresses, *patience_s)
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


def test_a_service_that_goes_is_noticed_and_the_line_comes_back(service):
    async def run():
        link = await linked(service, 0.3, 60.0)
        heard = []
        link.listen(lambda status: heard.append(link.lost))
        service.__exit__()
        await asyncio.sleep(0.1)  # for the last words of the service
        with pytest.raises(StoppedError, match=r"for 0\.3 s: it is gone"):
            await link.newer(link.count)
        async with asyncio.timeout(5):
            while not link.lost:
                await asyncio.sleep(0.01)
        assert heard[-1] is True
        service.__enter__()
        service.server.instance = "another"
        await link.newer(link.count, 10)
        assert not link.lost
        await link.close()

    asyncio.run(run())


def test_a_service_that_says_nothing_is_given_up_later():
    async def run():
        with Scripted(heartbeat_s=60) as mute:
            link = await linked(mute, 0.2, 1.0)
            began_s = time.monotonic()
            with pytest.raises(StoppedError, match="for 1 s: it is there, but hangs"):
                await link.newer(link.count)
            await link.close()
            return time.monotonic() - began_s

    assert asyncio.run(run()) >= 1.0


def test_a_loop_held_up_elsewhere_takes_nobody_for_dead(service):
    async def run():
        link = await linked(service, 0.3, 0.6)
        for _ in range(2):
            waiting = asyncio.create_task(link.newer(link.count + 3))
            await asyncio.sleep(0.05)
            time.sleep(1.0)
            await waiting
        told = link.lost, link.count
        await link.close()
        return told

    lost, count = asyncio.run(run())
    assert not lost
    assert count > 6


BUSY = """
import ctypes, sys, time
from ptystream.publish.control import ControlServer
with ControlServer({}, dict, heartbeat_s=0.1) as server:
    print(server.control_address, server.status_address, flush=True)
    sys.stdin.readline()
    ctypes.PyDLL(None).usleep(3_000_000)  # and keeps the interpreter to itself
    time.sleep(60)
"""


@contextmanager
def busy():
    """A service in a process that says nothing for 3 s once told so."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.addresses = process.stdout.readline().decode().split()
        try:
            yield process
        finally:
            process.kill()


def test_a_service_that_is_only_busy_is_waited_for():
    async def run(process):
        link = await linked(process, 0.5, 30.0)
        process.stdin.write(b"\n")
        process.stdin.flush()
        gap_s = 0.0
        while gap_s < 2.0:
            seen_s = time.monotonic()
            await link.newer(link.count)
            gap_s = time.monotonic() - seen_s
        lost = link.lost
        assert await link.ask("ping") == {}
        await link.close()
        return lost

    with busy() as process:
        assert asyncio.run(run(process)) is False


def test_a_process_that_is_frozen_is_told_within_one_and_a_half_heartbeats():
    async def run(process):
        link = await linked(process, 1.0, 60.0)
        await link.newer(link.count)
        process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        await asyncio.sleep(0.2)  # for what it had sent
        with pytest.raises(StoppedError, match="it is gone"):
            await link.newer(link.count)
        await link.close()
        return time.monotonic() - began_s

    with busy() as process:
        assert asyncio.run(run(process)) < 1.5 + 1.0  # what a busy machine adds
