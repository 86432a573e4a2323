import pytest

from ptystream.errors import ConfigError
from ptystream.ingest.endpoint import Endpoint, parse_endpoint

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
