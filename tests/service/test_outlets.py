import pytest

from ptystream.config import load
from ptystream.errors import ConfigError
from ptystream.service.outlets import outlets, pva_server

TILED = 'publish.tiled={uri = "http://127.0.0.1:8017", preview_px = 128}'
PVA = 'publish.pva={prefix = "PTY", port = 0}'
DOCUMENTS = 'publish.documents="127.0.0.1:5577"'


def names(*flags: str) -> list[str]:
    publish = load(environment={}, flags=flags).publish
    return [sink.name for sink in outlets(publish, pva_server(publish))]


def test_none_unless_asked_for():
    assert names() == []
    assert pva_server(load(environment={}).publish) is None


def test_those_asked_for():
    assert names(DOCUMENTS, TILED, PVA) == ["documents", "tiled", "pva"]
    assert names(PVA) == ["pva"]


def test_a_key_in_the_address_is_refused_and_not_shown():
    flag = 'publish.tiled.uri="http://127.0.0.1:8017?api_key=sesame"'
    with pytest.raises(ConfigError) as told:
        names(flag)
    assert "sesame" not in str(told.value)
