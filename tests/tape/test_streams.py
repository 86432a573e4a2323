from hypothesis import given
from hypothesis import strategies as st

from ptystream.tape.streams import StreamInfo, streams_of

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
entries = st.lists(
    st.fixed_dictionaries(
        {}, optional={"stream": json, "protocol": json, "pattern": json}
    )
)


def test_what_was_written_is_read() -> None:
    infos = [
        StreamInfo("det", "dectris", "pull", "tcp://dcu:9999"),
        StreamInfo("pos", "panda", "tcp", "tcp://panda:8889", request="XML\n"),
    ]
    header = {"taps": [info.as_dict() for info in infos]}
    assert streams_of(header) == {info.stream: info for info in infos}


def test_an_old_or_lost_header_means_the_native_wire() -> None:
    old = {"taps": [{"stream": "det", "address": "tcp://x:1", "pattern": "pull"}]}
    assert streams_of(old) == {"det": StreamInfo("det", "ptys", "pull", "tcp://x:1")}
    assert streams_of({}) == {"det": StreamInfo("det"), "pos": StreamInfo("pos")}


@given(st.dictionaries(st.text(), json) | st.fixed_dictionaries({"taps": entries}))
def test_any_header_gives_streams(header) -> None:
    for name, info in streams_of(header).items():
        assert name == info.stream
        assert info.pattern in ("sub", "pull", "req", "tcp")
