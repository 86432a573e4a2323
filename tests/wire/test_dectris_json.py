import json

import pytest

from ptystream.errors import DecodeError
from ptystream.wire.dectris_json import read_part


def test_a_part_with_a_type_and_nonsense_in_its_fields_is_an_error():
    nonsense = {"frame": "seven"}
    assert read_part(json.dumps(nonsense).encode()) is None
    with pytest.raises(DecodeError, match="dimage-1"):
        read_part(json.dumps({"htype": "dimage-1.0", **nonsense}).encode())
