"""tickit-devices: Diamond's Eiger simulator, both streams, and its recorded bytes."""

import threading
from pathlib import Path

import bitshuffle
import cbor2
import numpy as np
import pytest

from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.preprocess_options import PreprocessOptions
from ptystream.ingest.process import ReceiverProcess
from ptystream.wire import bslz4
from ptystream.wire.dectris import DectrisDecoder
from ptystream.wire.dectris2 import Dectris2Decoder
from ptystream.wire.envelope import EncodedFrame, Limits
from ptystream.wire.messages import ScanEnd, ScanStart
from tests.peers.environment import environment, free_ports, packages, running
from tests.peers.receiving import connected, parted, received
from tests.peers.simplon import Simplon
from tests.wire.dectris_streams import end, header, j

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]
SHAPE = (4362, 4148)  # an EIGER2 16M
MB = 1 << 20


@pytest.fixture(scope="module")
def programs() -> Path:
    return environment("tickit", "tickit-devices==0.4.1", "cbor2<6")


@pytest.fixture(scope="module")
def recorded(programs: Path) -> Path:
    """The folder of a real detector's bytes."""
    return packages(programs) / "tickit_devices" / "eiger" / "data"


def test_the_recorded_stream_of_version_2(recorded):
    decoder = Dectris2Decoder(Limits(max_frame_bytes=64 * MB))
    names = ("start.cbor", "image.cbor", "end.cbor")
    raw = [(recorded / "stream2" / name).read_bytes() for name in names]
    messages = [e.message for part in raw for e in decoder.decode([part])]
    start, frame, last = messages
    assert isinstance(start, ScanStart)
    assert (start.scan, start.shape, start.dtype) == ("series-15614", SHAPE, None)
    assert start.geometry is not None
    assert start.geometry.wavelength_m == pytest.approx(0.918381073013e-10)
    assert start.geometry.distance_m == pytest.approx(0.23715919962215962)
    assert start.geometry.detector_pixel_m == (75e-6, 75e-6)
    assert start.meta["saturation"] == 21517
    assert isinstance(frame, EncodedFrame)
    assert (frame.index, frame.start_ns, frame.stop_ns) == (0, 0, 4_317_460)
    assert last == ScanEnd("series-15614", "det", "complete")
    np.testing.assert_array_equal(frame.decode().counts, image_of(recorded, 2))


def test_the_recorded_blob_of_version_1(recorded):
    blob = (recorded / "frame_sample").read_bytes()
    data = j(
        htype="dimage_d-1.0",
        shape=SHAPE[::-1],
        type="uint16",
        encoding="bs16-lz4<",
        size=len(blob),
    )
    head = j(htype="dimage-1.0", series=14, frame=0, hash="")
    decoder = DectrisDecoder(Limits(max_frame_bytes=64 * MB))
    messages = [
        e.message
        for parts in (header(), [head, data, blob], [end()])
        for e in decoder.decode(parts)
    ]
    (frame,) = (m for m in messages if isinstance(m, EncodedFrame))
    whole = frame.decode().counts
    np.testing.assert_array_equal(whole, image_of(recorded, 1))
    np.testing.assert_array_equal(frame.decode_rows(1000, 1256), whole[1000:1256])


def image_of(recorded: Path, version: int) -> np.ndarray:
    """Decode what its simulator sends with cbor2 and bitshuffle's own wrapper."""
    if version == 1:
        blob = (recorded / "frame_sample").read_bytes()
    else:
        message = cbor2.loads((recorded / "stream2" / "image.cbor").read_bytes())
        message = getattr(message, "value", message)
        blob = message["data"]["threshold_1"].value[1].value.value[2]
    blocks = np.frombuffer(blob, np.uint8)[bslz4.HEADER.size :]
    return bitshuffle.decompress_lz4(blocks, SHAPE, np.dtype("<u2"), 4096)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("detail", ["none", "basic", "all"])
def test_a_series_of_its_simulator(programs, recorded, tmp_path, version, detail):
    n = 4
    rest, legacy, cbor = free_ports(3)
    settings = tmp_path / "detector.yaml"
    settings.write_text(
        "- type: tickit_devices.eiger.Eiger\n"
        "  name: detector\n"
        "  inputs: {}\n"
        f"  host: 127.0.0.1\n  port: {rest}\n  stream_host: 127.0.0.1\n"
        f"  stream_legacy_port: {legacy}\n  stream_cbor_port: {cbor}\n"
    )
    script = str(Path(__file__).with_name("tickit_detector.py"))
    command = [str(programs / "python"), script, "all", str(settings)]
    url = f"http://127.0.0.1:{rest}"
    ready = f"{url}/detector/api/1.8.0/status/state"
    name, port = ("dectris", legacy) if version == 1 else ("dectris2", cbor)
    endpoint = parse_endpoint(f"{name}+pull://127.0.0.1:{port}")
    with (
        running(command, tmp_path / "log", ready),
        ReceiverProcess(
            endpoint,
            ring_bytes=512 * MB,
            max_frame_bytes=48 * MB,
            preprocess=PreprocessOptions(mask=None),
        ) as receiver,
    ):
        connected(receiver)
        detector = Simplon(url, "1.8.0")
        detector.command("initialize")
        detector.set("stream", mode="enabled", header_detail=detail)
        detector.set("stream", format="legacy" if version == 1 else "cbor")
        detector.set("detector", nimages=n, trigger_mode="ints", frame_time=0.1)
        detector.command("arm")
        trigger = threading.Thread(target=detector.command, args=("trigger",))
        trigger.start()
        start, frames, _ = parted(received(receiver, 60))
        trigger.join()
        detector.command("disarm")
        assert receiver.stats().decode_errors == 0
    assert [f.index for f in frames] == list(range(n))
    expected = image_of(recorded, version)
    # What the detector says it can't be believed in gets the type's largest value.
    saturation = min(start.meta.get("saturation", 65534), 65534)
    expected[expected >= saturation] = 65535
    for frame in frames:
        np.testing.assert_array_equal(frame.counts, expected)
    if detail != "none" or version == 2:
        assert start.frames_expected == n
