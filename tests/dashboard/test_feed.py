import subprocess
import sys

import pytest
import zmq

from ptystream.dashboard.feed import Addresses, Feed
from ptystream.errors import ConfigError
from tests.dashboard.conftest import a_picture, until


def test_status_and_preview_are_heard_and_the_newest_is_kept(service):
    with Feed(service.addresses) as feed:
        until(lambda: feed.heard().here, "a status")
        for run in ("run-1", "run-2"):
            service.server.show(a_picture(run))
        heard = until(lambda: (h := feed.heard()).picture and h, "a preview")
        until(lambda: feed.heard().picture.about["run"] == "run-2", "the newest")
        assert heard.status["scan"] == "scan-1"
        assert heard.seen >= 1
        until(lambda: len(feed.heard().curves["time_s"]) >= 2, "curves")


def test_a_service_that_is_silent_counts_as_gone_and_is_heard_again(service):
    clock = [0.0]
    with Feed(service.addresses, lambda: clock[0]) as feed:
        until(lambda: feed.heard().here, "a status")
        service.stop()
        version = until(lambda: feed.heard().version, "a version")
        clock[0] = 10.0
        heard = feed.heard()
        assert not heard.here
        assert heard.silent_s >= 3
        assert heard.status["scan"] == "scan-1"
        service.start()
        until(lambda: feed.heard().here, "the service again")
        assert feed.heard().version > version


def test_before_the_first_word_nothing_is_known():
    with Feed(Addresses(*3 * ["tcp://127.0.0.1:1"])) as feed:
        heard = feed.heard()
        assert (heard.here, heard.silent_s, heard.picture) == (False, None, None)


def test_past_scans_are_asked_for_when_one_was_added(service):
    with Feed(service.addresses) as feed:
        until(lambda: feed.heard().here, "a status")
        service.past = [{"scan": "before"}]
        service.says = {**service.says, "finished_scans": 1}
        until(lambda: feed.heard().past == ({"scan": "before"},), "the past scan")


def test_what_cannot_be_read_is_counted_and_left_out():
    with zmq.Context() as context, context.socket(zmq.PUB) as status:
        status.setsockopt(zmq.LINGER, 0)
        port = status.bind_to_random_port("tcp://127.0.0.1")
        where = f"tcp://127.0.0.1:{port}"
        with Feed(Addresses("tcp://127.0.0.1:1", where, where)) as feed:

            def said() -> bool:
                for bad in (b"{", b"[1]", b'{"run": "r", "started_s": 1, "frames": 3}'):
                    status.send(bad)
                return feed.heard().ignored >= 4

            until(said, "what was ignored")
            assert feed.error is None
            assert not feed.heard().here


def test_an_address_that_is_none_is_refused():
    with (
        pytest.raises(ConfigError, match="nonsense"),
        Feed(Addresses("a", "nonsense", "b")),
    ):
        pass


def test_the_dashboard_starts_without_torch():
    code = (
        "import sys, ptystream.dashboard.server, ptystream.commands.dashboard;"
        "sys.exit('torch' in sys.modules)"
    )
    pytest.importorskip("bokeh", reason="bokeh is not installed")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
