"""``ptystream watch`` beside a real service, also one that goes away."""

import json
import os
import pty
import re
import select
import signal
import sys
import time

import pytest

from ptystream.publish.terminal import HALF
from tests.publish.test_documents_live import free_addresses
from tests.system.conftest import SMALL, Serving
from tests.system.processes import SERVED, Child, ran

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLUMNS="90", LINES="40")
            os.execv(sys.executable, [sys.executable, "-m", "ptystream", *words])
        self.text = ""

    def shows(self, pattern: str, timeout_s: float = 60.0) -> None:
        """Wait until the pattern appears in what comes from now on."""
        seen, deadline_s = "", time.monotonic() + timeout_s
        while not re.search(pattern, seen):
            assert time.monotonic() < deadline_s, f"no {pattern!r} in {seen[-2000:]!r}"
            seen += self._read()
        self.text += seen

    def ends(self) -> int:
        """Interrupt it, read on until it has ended, and return its exit code."""
        os.kill(self.pid, signal.SIGINT)
        try:
            while True:
                self._read()
        except OSError:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> str:
        if not select.select([self._end], [], [], 0.2)[0]:
            return ""
        return os.read(self._end, 1 << 16).decode(errors="replace")


def addresses_of(service: Serving) -> tuple[str, str]:
    told = service.addresses
    return f"--status={told['status']}", f"--preview={told['preview']}"


def test_a_scan_is_watched_to_its_end_and_the_services_too(tmp_path):
    control, status, preview = (f"tcp://{a}" for a in free_addresses(3))
    where = f"--status={status}", f"--preview={preview}"
    screen = Terminal("watch", *where)
    screen.shows("no word from")
    with Child(tmp_path, "simulate", *SMALL) as beamline:
        senders = beamline.line()
        flags = [
            *SERVED,
            f"--set=publish.control={control}",
            f"--set=publish.status={status}",
            f"--set=publish.preview={preview}",
            f"--results={tmp_path}",
            f"--detector=ptys+sub://{senders['detector'].partition('://')[2]}",
            f"--positions=ptys+sub://{senders['encoder'].partition('://')[2]}",
        ]
        with Child(tmp_path, "serve", *flags) as child:
            service = Serving(child, tmp_path)
            service.ended()
            screen.shows(HALF)
            screen.shows("144 of 144")
            (said,) = ran(tmp_path, "watch", *where, "--once", "--json")
            assert said["finished_scans"] == 1
    screen.shows("no word from")
    assert screen.ends() == 0


def test_once_says_who_does_not_answer(tmp_path):
    (nobody,) = free_addresses(1)
    words = ("watch", "--once", "--timeout=0.5", f"--status=tcp://{nobody}")
    with Child(tmp_path, *words) as child:
        assert child.ends() == 1
        assert f"no word from tcp://{nobody} in 0.5 s" in child.said()


def test_json_is_one_status_a_line(tmp_path):
    with Child(tmp_path, "serve", *SERVED, f"--results={tmp_path}") as child:
        service = Serving(child, tmp_path)
        with Child(tmp_path, "watch", "--json", *addresses_of(service)) as watch:
            states = [watch.line() for _ in range(2)]
            watch.send(signal.SIGINT)
            assert watch.ends() == 0
    assert [json.dumps(s["state"]) for s in states] == ['"idle"'] * 2
