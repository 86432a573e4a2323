"""``ptystream demo``: a beamline, the service and the report, as real processes."""

import argparse
import contextlib
import importlib.util
import json
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from rich.console import Console
from rich.live import Live

from ptystream.commands.common import say_json, stopped_by_signals
from ptystream.commands.facts import facts, plain, table
from ptystream.errors import ConfigError, StoppedError

FREE = "tcp://127.0.0.1:0"
START_S = 60.0
"""A process that says nothing for so long, when it should, is ended."""
LIMIT_S = 240.0
PLAIN_S = 3.0
"""Without a terminal, a line of progress so often."""


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``demo`` takes."""
    parser.add_argument("--preset", default="demo", help="the simulated scan")
    parser.add_argument(
        "--field", help="the object's field: auto, smooth, pixels, siren, …"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="kept here"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="refine at most so long"
    )
    parser.add_argument(
        "--bluesky",
        action="store_true",
        help="a Bluesky RunEngine flies the scan until the image is good enough",
    )
    parser.add_argument(
        "--no-dashboard", action="store_true", help="serve no web page beside it"
    )
    parser.add_argument(
        "--json", action="store_true", help="say nothing but the last line, JSON"
    )


@dataclass(frozen=True)
class Report:
    """What the processes said."""

    sent: int
    ended: dict[str, Any]
    score: dict[str, Any]
    result: Path


def run(args: argparse.Namespace) -> int:
    """Run the demo; the last line of standard output is one JSON object."""
    console = Console(stderr=True, quiet=args.json)
    folder = args.results / time.strftime("demo-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    if args.bluesky:
        return _bluesky(args, folder, console)
    console.print(
        "A simulated beamline streams a scan; the service reconstructs it as it comes."
    )
    with stopped_by_signals() as stop:
        report = _stream(args, folder, console, stop.is_set)
    if report is None:
        return 130
    say_json(_summary(report, console))
    return 0


def _bluesky(args: argparse.Namespace, folder: Path, console: Console) -> int:
    """Have a RunEngine fly; ConfigError without the extra."""
    try:
        from ptystream.commands.demo_bluesky import fly
    except ImportError as error:
        raise ConfigError(
            f"demo --bluesky: {error}; pip install 'ptystream[bluesky]'"
        ) from error
    console.print("A RunEngine flies a scan; the service says when it is good enough.")

    @contextlib.contextmanager
    def served(flags: list[str]) -> Iterator[dict[str, str]]:
        own = _own_flags(args, folder)
        with _process("serve", "--scans=1", *own, *flags) as service:
            yield _line(service, "the service")["ready"]

    with stopped_by_signals() as stop:
        said = fly(args, folder, console, stop, served)
    if said is None:
        return 130
    say_json(said)
    return 0


def _stream(args, folder: Path, console: Console, stopped) -> Report | None:
    """Start both processes, watch them to their end, score the result."""
    truth = folder / "truth.h5"
    with contextlib.ExitStack() as stack:
        beamline = stack.enter_context(
            _process(
                "simulate",
                f"--preset={args.preset}",
                f"--truth={truth}",
                f"--set=detector.address={FREE}",
                f"--set=encoder.address={FREE}",
            )
        )
        senders = _line(beamline, "the simulated beamline")
        service = stack.enter_context(
            _process("serve", "--scans=1", *_serve_flags(args, folder, senders))
        )
        ready = _line(service, "the service")["ready"]
        if not (args.json or args.no_dashboard):
            stack.enter_context(_dashboard(ready, console))
        if not _watch(ready["status"], service, console, stopped):
            return None
        ended = _line(service, "the service")
        sent = _line(beamline, "the simulated beamline")
        service.wait(60)
    if ended["result"] is None:
        raise StoppedError(f"nothing was reconstructed: {ended['refined']}")
    result = Path(ended["result"])
    scored = subprocess.run(
        [*_command("score"), str(result), str(truth), "--json"],
        check=True,
        capture_output=True,
    )
    return Report(sent["detector"]["items"], ended, json.loads(scored.stdout), result)


@contextlib.contextmanager
def _dashboard(ready: dict[str, str], console: Console) -> Iterator[None]:
    """Serve the page while the demo runs, and tell its address with the token."""
    if importlib.util.find_spec("bokeh") is None:
        console.print("dashboard  not installed: pip install 'ptystream[dashboard]'")
        yield
        return
    token = secrets.token_urlsafe(24)
    with tempfile.NamedTemporaryFile("w", prefix="ptystream-") as file:  # mode 0600
        file.write(token)
        file.flush()
        where = [f"--{name}={ready[name]}" for name in ("control", "status", "preview")]
        flags = [*where, "--listen=127.0.0.1:0", f"--token-file={file.name}"]

        def tell() -> None:
            line = page.stdout.readline() if page.stdout is not None else ""
            if line:
                address = f"{json.loads(line)['ready']['dashboard']}#token={token}"
                console.print("dashboard ", address, highlight=False, soft_wrap=True)

        with _process("dashboard", *flags) as page:
            # The scan is under way: it is watched meanwhile.
            telling = threading.Thread(target=tell, name="dashboard")
            telling.start()
            try:
                yield
            finally:
                page.terminate()
                telling.join()


def _serve_flags(args, folder: Path, senders: dict[str, str]) -> list[str]:
    """Return what the service is told: free ports, this beamline, this folder."""
    return [
        f"--detector=ptys+sub://{senders['detector'].partition('://')[2]}",
        f"--positions=ptys+sub://{senders['encoder'].partition('://')[2]}",
        *_own_flags(args, folder),
    ]


def _own_flags(args: argparse.Namespace, folder: Path) -> list[str]:
    """Return what the service is told whoever streams."""
    flags = [
        f"--results={folder}",
        f"--set=publish.control={FREE}",
        f"--set=publish.status={FREE}",
        f"--set=publish.preview={FREE}",
        "--set=publish.metrics=127.0.0.1:0",
        f"--set=refine.max_s={args.seconds}",
    ]
    return flags + ([f"--field={args.field}"] if args.field else [])


def _command(name: str) -> list[str]:
    """Return the words that run a command of this very installation."""
    return [sys.executable, "-m", "ptystream", name, "--quiet"]


@contextlib.contextmanager
def _process(name: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command until it ends, or end it when the demo ends first."""
    process = subprocess.Popen(
        [*_command(name), *flags],
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C while it still imports would end it with a traceback; later it listens.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _line(process: subprocess.Popen[str], who: str) -> dict[str, Any]:
    """Return the next line of JSON that a process prints."""
    patience = threading.Timer(START_S, process.kill)
    patience.start()
    line = process.stdout.readline() if process.stdout is not None else ""
    patience.cancel()
    if not line:
        raise StoppedError(f"{who} ended early with status {process.wait()}")
    return json.loads(line)


def _watch(address: str, service, console: Console, stopped) -> bool:
    """Show progress until the scan is finished; False if the user stops it."""
    with zmq.Context() as context, context.socket(zmq.SUB) as status:
        status.setsockopt(zmq.LINGER, 0)
        status.subscribe(b"")
        status.connect(address)
        shown_s, deadline_s = 0.0, time.monotonic() + LIMIT_S
        with Live(console=console, transient=True, auto_refresh=False) as live:
            while service.poll() is None and time.monotonic() < deadline_s:
                if stopped():
                    return False
                if not status.poll(200):
                    continue
                state = json.loads(status.recv_multipart()[-1])
                if state["finished_scans"]:
                    return True
                if console.is_terminal:
                    live.update(table(facts(state)), refresh=True)
                elif time.monotonic() - shown_s >= PLAIN_S:
                    shown_s = time.monotonic()
                    console.print(plain(facts(state)), highlight=False, soft_wrap=True)
    raise StoppedError(f"the service ended, or took more than {LIMIT_S:g} s")


def _summary(report: Report, console: Console) -> dict[str, Any]:
    """Print the report, and return it as the last line wants it."""
    frames, aligned = report.ended["frames"], report.score["aligned"]
    flat = report.score["flat_aligned"]
    after_s = report.ended["seconds_after_last_frame"]
    lost = report.sent - frames["paired"]
    picture = report.result.with_suffix(".png")
    console.print(
        f"frames     {report.sent} sent, {frames['received']} received, {lost} lost\n"
        f"amplitude  {aligned['psnr_amplitude_db']:.1f} dB PSNR "
        f"(an empty object: {flat['psnr_amplitude_db']:.1f})\n"
        f"phase      {aligned['psnr_phase_db']:.1f} dB PSNR "
        f"(an empty object: {flat['psnr_phase_db']:.1f})\n"
        f"done       {after_s:.1f} s after the last frame: {report.ended['refined']}\n"
        f"picture    {picture}\n"
        f"report     {picture.with_suffix('.html')}\n"
        f"result     {report.result}",
        highlight=False,
        soft_wrap=True,
    )
    return {
        "frames_sent": report.sent,
        "frames_received": frames["received"],
        "frames_lost": lost,
        "psnr_amplitude_db": round(aligned["psnr_amplitude_db"], 2),
        "psnr_phase_db": round(aligned["psnr_phase_db"], 2),
        "seconds_after_last_frame": round(after_s, 2),
        "picture": str(picture),
        "report": str(picture.with_suffix(".html")),
        "result": str(report.result),
    }
