"""``ptystream watch``: a running service in a terminal."""

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import zmq
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ptystream.commands.common import stopped_by_signals
from ptystream.commands.curve_flags import add_client_keys, client_keys_of
from ptystream.commands.facts import facts, number, plain, table
from ptystream.dashboard.curves import Curves
from ptystream.errors import ConfigError, DecodeError, StoppedError
from ptystream.publish.client import Handshakes
from ptystream.publish.images import MAX_IMAGES, Picture, decode_picture
from ptystream.publish.terminal import drawn
from ptystream.wire.curve import ClientKeys

T = TypeVar("T")

SILENT_S = 3.0
"""Without a word for so long, the service is said to be gone."""
PLAIN_S = 3.0
"""Without a terminal, a line so often."""
REFRESH_S = 0.5
BESIDE = 20
"""Lines that the facts and the frame around the picture take."""
LARGEST = 1 << 26
"""Bytes of a message's part that are taken in; more, and ZeroMQ drops the sender."""


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``watch`` takes."""
    parser.add_argument(
        "--status", default="tcp://127.0.0.1:5611", help="the service's status socket"
    )
    parser.add_argument(
        "--preview", default="tcp://127.0.0.1:5612", help="its preview socket"
    )
    parser.add_argument(
        "--no-picture", action="store_true", help="numbers only: for slow connections"
    )
    parser.add_argument(
        "--once", action="store_true", help="print the state once, and end"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="--once: how long to wait for a word",
    )
    parser.add_argument(
        "--json", action="store_true", help="print each status as a line of JSON"
    )
    add_client_keys(parser)


class Newest:
    """The newest message of a socket, decoded; what it overtook is never seen."""

    def __init__(
        self, context: zmq.Context, address: str, keys: ClientKeys | None
    ) -> None:
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 4)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        self._socket.subscribe(b"")
        if keys is not None:
            keys.apply(self._socket)
        self._handshakes = Handshakes(self._socket)
        self.address = address
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            raise ConfigError(f"can't connect to {address}: {error}") from error

    def silence(self, how_long: str) -> str:
        """Return words for having heard nothing."""
        return f"no word from {self.address} {how_long}{self._handshakes.hint()}"

    def take(self, wait_s: float = 0.0) -> list[bytes] | None:
        """Return the parts of what came last; None if nothing did."""
        newest = None
        wait_ms = int(1000 * wait_s)
        while self._socket.poll(wait_ms):
            newest, wait_ms = self._socket.recv_multipart(), 0
        return newest


def run(args: argparse.Namespace) -> int:
    """Show the service until Ctrl-C; one that goes is waited for."""
    console = Console()
    keys = client_keys_of(args)
    with stopped_by_signals() as stop, zmq.Context() as context:
        try:
            status = Newest(context, args.status, keys)
            if args.once or args.json or not console.is_terminal:
                _lines(args, status, console, stop.is_set)
            else:
                pictures = Newest(context, args.preview, keys)
                _live(args, status, pictures, console, stop.is_set)
        finally:
            context.destroy(linger=0)
    return 0


def _lines(args, status: Newest, console: Console, stopped) -> None:
    """Print lines: each status as JSON, or now and then one in words."""
    said_s = began_s = time.monotonic()
    due_s, curves = 0.0, Curves()
    while not stopped():
        state = _state(status.take(0.2))
        now_s = time.monotonic()
        if state is None:
            silent = now_s - max(said_s, began_s)
            if args.once and silent > args.timeout:
                raise StoppedError(status.silence(f"in {args.timeout:g} s"))
            if silent > SILENT_S and now_s >= due_s:
                due_s = now_s + PLAIN_S
                console.print(_gone(status, silent), soft_wrap=True)
            continue
        said_s = now_s
        curves.add(state)
        if args.json:
            print(json.dumps(state), flush=True)
        elif args.once or now_s >= due_s:
            due_s = now_s + PLAIN_S
            console.print(
                plain(_rows(state, curves.frames_per_s)),
                highlight=False,
                soft_wrap=True,
            )
        if args.once:
            return


def _live(args, status: Newest, pictures: Newest, console: Console, stopped) -> None:
    """Keep one screen up to date."""
    state: dict[str, Any] | None = None
    picture: Picture | None = None
    said_s, curves = time.monotonic(), Curves()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while not stopped():
            came = _state(status.take(REFRESH_S))
            if came is not None:
                state, said_s = came, time.monotonic()
                curves.add(came)
            if not args.no_picture:
                picture = _picture(pictures.take()) or picture
            silent_s = time.monotonic() - said_s
            rate = curves.frames_per_s if state and state["run"] else math.nan
            screen = _screen(status, state, rate, picture, silent_s, console)
            live.update(screen, refresh=True)


def _screen(
    status: Newest,
    state: dict[str, Any] | None,
    rate: float,
    picture: Picture | None,
    silent_s: float,
    console: Console,
) -> Group:
    """Return all that is shown at one moment."""
    parts: list[Any] = []
    if silent_s > SILENT_S:
        parts.append(Text(_gone(status, silent_s), style="bold red"))
    elif state is None:
        parts.append(Text(f"waiting for {status.address}"))
    if state is not None:
        parts.append(table(_rows(state, rate)))
    width, height = console.size
    made = picture and drawn(picture, columns=width - 1, rows=height - BESIDE)
    if made:
        parts += [Text(made[1], style="dim"), made[0]]
    parts.append(Text("Ctrl-C ends", style="dim"))
    return Group(*parts)


def _rows(state: dict[str, Any], rate: float) -> list[tuple[str, str]]:
    """Return the demo's facts, and what a longer watch wants; ``rate`` in frames/s."""
    rows = [("scan", str(state["scan"] or "-")), *facts(state)]
    lost = {name: n for name, n in state["frames"]["lost"].items() if n}
    if lost:
        rows.append(("lost by", ", ".join(f"{n} {name}" for name, n in lost.items())))
    rows.append(("resolution", _nm(state["quality"].get("resolution_m"))))
    rows.append(("frames/s", "-" if math.isnan(rate) else f"{rate:.3g}"))
    rows.append(("steps/s", number(state["steps_per_s"])))
    rows.append(("scans", str(state["finished_scans"])))
    failed = {s["name"]: s["failures"] for s in state["sinks"] if s["failures"]}
    if failed:
        told = ", ".join(f"{name} ({n} times)" for name, n in failed.items())
        rows.append(("sinks failed", told))
    if state["detail"]:
        rows.append(("detail", state["detail"]))
    return rows


def _nm(length_m: float | None) -> str:
    return "-" if length_m is None else f"{length_m * 1e9:.3g} nm"


def _gone(status: Newest, silent_s: float) -> str:
    return f"{status.silence(f'for {silent_s:.0f} s')}; waiting for it"


def _state(parts: list[bytes] | None) -> dict[str, Any] | None:
    """Return a status; None of what is none."""
    return _read(parts, lambda told: json.loads(told[-1]))


def _picture(parts: list[bytes] | None) -> Picture | None:
    """Return a preview; None of what is none."""
    if parts is not None and len(parts) > MAX_IMAGES + 1:
        return None
    return _read(parts, decode_picture)


def _read(parts: list[bytes] | None, decode: Callable[[list[bytes]], T]) -> T | None:
    """Return what was sent; one that can't be read is as if it had not come."""
    try:
        return None if parts is None else decode(parts)
    except (ValueError, DecodeError):
        return None
