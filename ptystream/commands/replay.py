"""``ptystream replay``: a tape or a CXI file, sent again."""

import argparse
import threading
import time
import uuid
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import h5py

from ptystream.commands.common import say_json, stopped_by_signals
from ptystream.errors import StoppedError
from ptystream.ingest.sender import Sender
from ptystream.tape.cxi import CxiScan
from ptystream.tape.faults import Faults, FaultyTape
from ptystream.tape.log import TapeReader
from ptystream.tape.replay import Outlet, replay
from ptystream.tape.source import cxi_messages
from ptystream.wire.messages import Frame, ScanEnd

FAULTS = ("drop", "repeat", "corrupt")
PATIENCE_S = 10.0
"""A reader that is behind is waited for so long, then the message is dropped."""


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``replay`` takes."""
    parser.add_argument("file", type=Path, help="a tape, or a CXI file")
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="1: as recorded; N: so many times as fast; 0: flat out",
    )
    parser.add_argument(
        "--rate", type=float, default=100.0, help="frames a second of a CXI file"
    )
    parser.add_argument(
        "--half", choices=("even", "odd"), help="CXI: every second exposure, for FRC"
    )
    parser.add_argument("--detector", default="tcp://127.0.0.1:5601", metavar="BIND")
    parser.add_argument("--positions", default="tcp://127.0.0.1:5602", metavar="BIND")
    for name in FAULTS:
        parser.add_argument(
            f"--{name}",
            type=float,
            default=0.0,
            metavar="SHARE",
            help=f"tape: {name} this share of the messages",
        )
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--push", action="store_true", help="PUSH instead of PUB")
    parser.add_argument(
        "--wait", type=float, default=30.0, help="seconds to wait for readers"
    )


def run(args: argparse.Namespace) -> int:
    """Send everything; print what was sent. 1 if something was dropped."""
    with stopped_by_signals() as stop:
        if h5py.is_hdf5(args.file):
            return _stream_cxi(args, stop)
        return _replay_tape(args, stop)


def _replay_tape(args: argparse.Namespace, stop: threading.Event) -> int:
    """Send a tape's raw parts in their original format."""
    pattern = "push" if args.push else "pub"
    with ExitStack() as stack:
        tape = stack.enter_context(TapeReader(args.file))
        outlets = {
            stream: stack.enter_context(Outlet(address, pattern))
            for stream, address in (("det", args.detector), ("pos", args.positions))
        }
        say_json({name: outlet.address for name, outlet in outlets.items()})
        shares = {name: getattr(args, name) for name in FAULTS}
        faulty = FaultyTape(tape, Faults(**shares, seed=args.seed))
        stats = replay(faulty, outlets, speed=args.speed, wait_s=args.wait, stop=stop)
        told = {"damage": asdict(tape.damage), "injected": asdict(faulty.injected)}
    say_json({**asdict(stats), **told})
    return 0 if stats.dropped == 0 else 1


def _stream_cxi(args: argparse.Namespace, stop: threading.Event) -> int:
    """Send a file's exposures over the native wire at a steady rate."""
    pattern = "push" if args.push else "pub"
    with (
        CxiScan(args.file) as cxi,
        Sender(args.detector, pattern=pattern) as detector,
        Sender(args.positions, pattern=pattern) as encoder,
    ):
        say_json({"det": detector.address, "pos": encoder.address})
        senders = {"det": detector, "pos": encoder}
        for sender in senders.values():
            _await_reader(sender, args.wait, stop)
        due_s, sent = time.monotonic(), 0
        for stream, message in cxi_messages(cxi, f"{args.file.stem}-{uuid.uuid4()}"):
            if stop.is_set():
                break
            if isinstance(message, Frame):
                if args.half and message.index % 2 != int(args.half == "odd"):
                    continue
                due_s += 1 / (args.rate * args.speed) if args.speed else 0.0
                stop.wait(max(0.0, due_s - time.monotonic()))
                sent += 1
            if isinstance(message, ScanEnd):
                message = replace(message, sent=None)  # as many as went through here
            senders[stream].send(message, encoding="bslz4", wait_s=PATIENCE_S)
        dropped = sum(sender.stats.dropped for sender in senders.values())
        say_json({"frames": sent, "dropped": dropped})
    return 0 if dropped == 0 else 1


def _await_reader(sender: Sender, timeout_s: float, stop: threading.Event) -> None:
    """Return once somebody listens, or a stop; StoppedError if nobody came."""
    deadline_s = time.monotonic() + timeout_s
    while not stop.is_set() and not sender.wait_for_subscribers(0.1):
        if time.monotonic() >= deadline_s:
            raise StoppedError(f"{sender.address}: nobody came in {timeout_s:g} s")
