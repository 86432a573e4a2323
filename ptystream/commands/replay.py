"""``ptystream replay``: a tape or a file of a scan, sent again."""

import argparse
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ptystream.commands.common import say_json, stopped_by_signals
from ptystream.commands.curve_flags import add_server_keys, admission_of
from ptystream.commands.fault_flags import add_faults, faults_of
from ptystream.errors import ConfigError
from ptystream.ingest.protocols import PROTOCOLS
from ptystream.service.encoders import ENCODERS, FileTape
from ptystream.service.recorded import decoders_of, request_of
from ptystream.tape.faults import FaultyTape
from ptystream.tape.files import is_tape, scan_file
from ptystream.tape.format import Record
from ptystream.tape.log import TapeReader
from ptystream.tape.outlets import SPEECH, Outlet, ZmqOutlet
from ptystream.tape.pace import undisturbed
from ptystream.tape.replay import replay
from ptystream.tape.source import file_messages
from ptystream.tape.streams import StreamInfo, streams_of
from ptystream.tape.tcp_outlet import TcpOutlet
from ptystream.wire.curve import Admission

PATIENCE_S = 10.0
"""A reader that is behind is waited for so long, then the message is dropped."""


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``replay`` takes."""
    parser.add_argument("file", type=Path, help="a tape, a CXI or an HXN-style file")
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="1: as recorded; N: so many times as fast; 0: flat out",
    )
    parser.add_argument(
        "--loops", type=int, default=1, metavar="N", help="times; 0: until stopped"
    )
    parser.add_argument("--detector", default="tcp://127.0.0.1:5601", metavar="BIND")
    parser.add_argument("--positions", default="tcp://127.0.0.1:5602", metavar="BIND")
    parser.add_argument(
        "--push", action="store_true", help="PUSH instead of PUB, whatever was recorded"
    )
    parser.add_argument(
        "--wait", type=float, default=30.0, help="seconds to wait for readers"
    )
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="ask for real-time scheduling: true timing on a busy machine",
    )
    files = parser.add_argument_group("of a file that is no tape")
    files.add_argument(
        "--rate", type=float, default=100.0, help="frames a second at speed 1"
    )
    files.add_argument(
        "--half", choices=("even", "odd"), help="every second exposure only, for FRC"
    )
    files.add_argument(
        "--as", dest="wire", choices=sorted(ENCODERS["det"]), default="ptys"
    )
    files.add_argument(
        "--positions-as", choices=sorted(ENCODERS["pos"]), default="ptys"
    )
    add_faults(parser)
    add_server_keys(parser)


def run(args: argparse.Namespace) -> int:
    """Send everything; print what was sent. 1 if something was dropped."""
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
        realtime = stack.enter_context(undisturbed(args.realtime and args.speed > 0))
        records, header = _source(args, stack)
        outlets = _outlets(args, header, admission_of(args), stack)
        say_json({name: outlet.address for name, outlet in outlets.items()})
        solid = {n for n, info in streams_of(header).items() if info.pattern == "tcp"}
        faulty = FaultyTape(records, faults_of(args), decoders_of(header), solid)
        stats = replay(
            faulty,
            outlets,
            speed=args.speed,
            loops=args.loops or None,
            wait_s=args.wait,
            stop=stop,
        )
        told = {"realtime": realtime, "injected": faulty.injected}
        if isinstance(records, TapeReader):
            told["damage"] = asdict(records.damage)
    say_json({**asdict(stats), **told})
    return 0 if stats.dropped == 0 else 1


def _source(
    args: argparse.Namespace, stack: ExitStack
) -> tuple[Iterable[Record], Mapping[str, Any]]:
    """Return what is sent, and a header that says in which wires it is."""
    if is_tape(args.file):
        tape = stack.enter_context(TapeReader(args.file))
        return tape, tape.header
    file = stack.enter_context(scan_file(args.file))
    half: Literal["even", "odd"] | None = args.half
    wires = {"det": args.wire, "pos": args.positions_as}
    records = FileTape(
        lambda: file_messages(file, f"{args.file.stem}-{uuid.uuid4()}", half),
        wires,
        args.rate,
    )
    return records, {"taps": [_info(*wire).as_dict() for wire in wires.items()]}


def _info(stream: str, protocol: str) -> StreamInfo:
    """Return a stream that speaks a protocol in its usual pattern."""
    request = request_of(protocol).decode("ascii")
    pattern = PROTOCOLS[protocol].patterns[0]
    return StreamInfo(stream, protocol, pattern, request=request)


def _outlets(
    args: argparse.Namespace,
    header: Mapping[str, Any],
    curve: Admission | None,
    stack: ExitStack,
) -> dict[str, Outlet]:
    binds = {"det": args.detector, "pos": args.positions}
    outlets: dict[str, Outlet] = {}
    for name, info in streams_of(header).items():
        if name in binds:
            outlet = _outlet(binds[name], info, args, curve)
            outlets[name] = stack.enter_context(outlet)
    return outlets


def _outlet(
    address: str,
    info: StreamInfo,
    args: argparse.Namespace,
    curve: Admission | None,
) -> Outlet:
    """Return a socket that speaks as the recorded one's peer did.

    A file, or a tape flat out, can wait for its readers. ConfigError for keys where
    nothing is encrypted.
    """
    patience_s = 1.0 if is_tape(args.file) and args.speed else PATIENCE_S
    speech = SPEECH[info.pattern]
    if speech == "tcp" and curve is not None:
        raise ConfigError(
            f"{info.stream}: a plain connection can't be encrypted; expected no --key"
        )
    if speech == "tcp":
        request = info.request.encode()
        return TcpOutlet(address, request=request, patience_s=patience_s)
    if args.push and speech == "pub":
        speech = "push"
    return ZmqOutlet(address, speech, patience_s=patience_s, curve=curve)
