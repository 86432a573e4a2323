"""What a frame costs the receiver: alone, beside a recorder, under CURVE.

Frames come at a steady rate: flat out, three processes on two cores would measure the
scheduler.
"""

import select
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from zmq.auth import create_certificates

from ptystream.errors import StoppedError
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.process import ReceiverProcess, ReceiverStats
from ptystream.wire.curve import client_keys
from tools.benchmarks.figures import Figure, median, processor_s, ratio
from tools.benchmarks.receiver import LIMIT_S, Process, line_of, process

COST = 1.05
RATE_HZ, RAW_RATE_HZ = 3000.0, 1000.0
SECONDS = 3.0
TICK_S = 0.001
SECRET = "client.key_secret"


def recording(quick: bool) -> Iterator[Figure]:
    """Yield what a frame costs the receiver with a recorder beside it, and without."""
    repeats = 1 if quick else 5
    costs: dict[bool, list[float]] = {False: [], True: []}
    lost = {False: 0, True: 0}
    for _ in range(repeats):
        for recorded in costs:
            cost_us, missing = _received("bslz4", RATE_HZ, recorded=recorded)
            costs[recorded].append(cost_us)
            lost[recorded] += missing
    spread = costs[False] * 2 if quick else costs[False]
    yield median("receiver, processor time a frame", spread, "us")
    beside = costs[True] * 2 if quick else costs[True]
    yield median("the same beside a recorder", beside, "us")
    yield ratio("recording's cost to the receiver", beside, spread, target=COST)
    for recorded, label in ((False, "alone"), (True, "beside a recorder")):
        yield Figure(f"frames lost, {label}", lost[recorded], "frames", 0)


def encryption(quick: bool) -> Iterator[Figure]:
    """Yield what a frame costs the receiver under CURVE, and without, at a set rate."""
    for scan, rate_hz in (("bslz4", RATE_HZ), ("raw", RAW_RATE_HZ)):
        yield from _encryption(scan, rate_hz, 2 if quick else 5)


def _encryption(scan: str, rate_hz: float, repeats: int) -> Iterator[Figure]:
    costs: dict[str, list[float]] = {"plain": [], "CURVE": []}
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for who in ("server", "client"):
            _, secret = create_certificates(folder, who)
            Path(secret).chmod(0o600)  # as receiver and sender expect of a secret
        for _ in range(repeats):
            for how, keys in (("plain", None), ("CURVE", folder)):
                cost_us, missing = _received(scan, rate_hz, keys=keys)
                costs[how].append(cost_us)
                lost += missing
    label = f"256 x 256 {scan}"
    plain, encrypted = costs["plain"], costs["CURVE"]
    yield median(f"receiver, processor time a frame, {label}", plain, "us")
    yield median(f"the same under CURVE, {label}", encrypted, "us")
    yield ratio(f"CURVE's cost to the receiver, {label}", encrypted, plain)
    yield Figure(f"frames lost, {label}, {rate_hz:g}/s", lost, "frames", 0)


def _received(
    scan: str, rate_hz: float, *, recorded: bool = False, keys: Path | None = None
) -> tuple[float, int]:
    """Return the receiver's processor time a frame, in us, and the frames lost.

    ``keys`` is a folder of certificates, ``server`` and ``client``; none: no CURVE.
    """
    count = round(rate_hz * SECONDS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        words = ["pace", str(count), str(rate_hz), scan, "2" if recorded else "1"]
        sender = stack.enter_context(process(*words, *([str(keys)] if keys else [])))
        address = line_of(sender).strip()
        url = address.replace("tcp", "ptys+sub")
        if recorded:
            flags = ("record", "-q", "-o", str(folder / "a.tape"), "--scans=1")
            where = (f"--detector={url}", "--positions=none")
            stack.enter_context(process(*flags, *where, module="ptystream.cli"))
        curve = client_keys(keys / "server.key", keys / SECRET) if keys else None
        receiver = stack.enter_context(
            ReceiverProcess(parse_endpoint(url), curve=curve)
        )
        before_s = processor_s(receiver.pid)
        stats = drained(receiver, sender)
        spent_s = processor_s(receiver.pid) - before_s
    return spent_s / max(1, stats.frames) * 1e6, count - stats.frames


def drained(
    receiver: ReceiverProcess, sender: Process, every: Callable[[], None] = lambda: None
) -> ReceiverStats:
    """Empty the ring until the sender has said its last word and all has come."""
    quiet_s = time.monotonic()
    done = False
    while not done or time.monotonic() - quiet_s < 1.0:
        if receiver.drain():
            quiet_s = time.monotonic()
        else:
            time.sleep(TICK_S)
        every()
        if not done and sender.stdout is not None:
            done = bool(select.select([sender.stdout], [], [], 0)[0])
        if time.monotonic() - quiet_s > LIMIT_S:
            raise StoppedError(f"nothing came for {LIMIT_S} s: {receiver.stats()}")
    return receiver.stats()
