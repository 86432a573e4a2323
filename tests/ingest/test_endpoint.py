import pytest

from ptystream.errors import ConfigError
from ptystream.ingest.endpoint import Endpoint, check_taking, parse_endpoint
from ptystream.ingest.protocols import PROTOCOLS

GOOD = {
    "ptys+sub://127.0.0.1:5555": ("sub", "tcp://127.0.0.1:5555"),
    "ptys+pull://det.lab:80": ("pull", "tcp://det.lab:80"),
    "ptys+sub://[::1]:5555": ("sub", "tcp://[::1]:5555"),
    "ptys+sub+ipc:///run/det": ("sub", "ipc:///run/det"),
    "ptys+pull+ipc:///run/a b": ("pull", "ipc:///run/a b"),
}


@pytest.mark.parametrize("url", GOOD)
def test_good_urls(url):
    endpoint = parse_endpoint(url)
    assert endpoint == Endpoint("ptys", *GOOD[url])  # pyright: ignore
    assert str(endpoint) == url
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tcp://127.0.0.1:5555",
        "ptys://127.0.0.1:5555",
        "ptys+pub://127.0.0.1:5555",
        "nexus+sub://127.0.0.1:5555",
        "ptys+sub+udp://127.0.0.1:5555",
        "ptys+sub:127.0.0.1:5555",
        "ptys+sub://127.0.0.1",
        "ptys+sub://:5555",
        "ptys+sub://127.0.0.1:0",
        "ptys+sub://127.0.0.1:70000",
        "ptys+sub://127.0.0.1:port",
        "ptys+sub://127.0.0.1:5555/path",
        "ptys+sub://user@127.0.0.1:5555",
        "ptys+sub://[::1:5555",
        "ptys+sub+ipc://relative",
        "ptys+sub+ipc:///" + "x" * 110,
    ],
)
def test_bad_urls_say_what_was_expected(url):
    with pytest.raises(ConfigError, match=r"expected|absolute") as error:
        parse_endpoint(url)
    assert repr(url) in str(error.value)


@pytest.mark.parametrize(
    ("url", "pattern", "address"),
    [
        ("dectris+pull://det.lab", "pull", "tcp://det.lab:9999"),
        ("dectris+sub://det.lab:5559", "sub", "tcp://det.lab:5559"),
        ("dectris2+pull://[::1]", "pull", "tcp://[::1]:31001"),
        ("dectris+sub+ipc:///run/det", "sub", "ipc:///run/det"),
        ("panda://panda.lab", "tcp", "tcp://panda.lab:8889"),
        ("panda://panda.lab:99", "tcp", "tcp://panda.lab:99"),
        ("karabo+req://kb:4545", "req", "tcp://kb:4545"),
    ],
)
def test_other_wires_and_their_usual_ports(url, pattern, address):
    endpoint = parse_endpoint(url)
    protocol = url.partition(":")[0].partition("+")[0]
    assert endpoint == Endpoint(protocol, pattern, address)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("dectris+req://a:1", r"dectris\+pull or dectris\+sub, then ://HOST\[:9999\]"),
        ("dectris://a:1", r"dectris\+pull"),
        ("dectris+pull://a:", r"HOST\[:9999\]"),
        ("panda+sub://a", "expected panda, then"),
        ("karabo+req://a", r"karabo\+req .* then ://HOST:PORT"),
    ],
)
def test_what_a_wire_does_not_speak_is_told_with_what_it_does(url, expected):
    with pytest.raises(ConfigError, match=expected):
        parse_endpoint(url)


def test_pulling_from_a_detector_needs_leave():
    """Pitfall 3: a second client of a PUSH socket takes frames from the first."""
    pull = parse_endpoint("dectris+pull://a")
    with pytest.raises(ConfigError, match=r"file writer.*detector\.allow_pull"):
        check_taking(pull, allowed=False, how="detector.allow_pull = true")
    check_taking(pull, allowed=True, how="")
    for url in ("dectris+sub://a", "ptys+pull://a:1", "ptys+sub://a:1"):
        check_taking(parse_endpoint(url), allowed=False, how="")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_wire_has_an_endpoint(protocol):
    wire = PROTOCOLS[protocol]
    for pattern in wire.patterns:
        middle = "" if pattern == "tcp" else f"+{pattern}"
        endpoint = parse_endpoint(f"{protocol}{middle}://host:1")
        assert (endpoint.wire, endpoint.pattern) == (wire, pattern)
    assert set(wire.takes_away) <= set(wire.patterns)


def test_a_wire_that_carries_no_frames_is_no_detector():
    with pytest.raises(ConfigError, match=r"sends no frames; .*dectris.* do"):
        parse_endpoint("panda-json+sub://host:1", "det")
    with pytest.raises(ConfigError, match="sends no positions"):
        parse_endpoint("dectris+sub://host:1", "pos")
    assert parse_endpoint("ptys+sub://host:1", "pos").protocol == "ptys"
