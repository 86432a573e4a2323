"""What the control socket understands, beside ping, status and commands."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from ptystream.config import Config
from ptystream.errors import DecodeError
from ptystream.publish.files import FileSink
from ptystream.publish.requests import Command
from ptystream.publish.runner import SinkThread
from ptystream.publish.runs import Uid, run_note
from ptystream.publish.sink import RunInfo
from ptystream.publish.stack import StackRequest, StackSink
from ptystream.service.announced import Announced
from ptystream.service.reconstructing import Reconstructing

T = TypeVar("T")
LOOKS = ("past", "ended")
"""Commands that a key may ask which may only look."""
Why = Annotated[str, msgspec.Meta(max_length=200)]


class _Which(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run that is meant: by any of its uids; none: whichever is open."""

    uid: Uid | None = None
    why: Why = ""


class _Enough(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    uid: Uid | None = None
    why: Why = ""
    refine: bool = True


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    uid: Uid


class _Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    frames: Annotated[int, msgspec.Meta(gt=0, le=100_000)]


class Commands:
    """Commands for an engine, its results and its stacks; each only hands over."""

    def __init__(
        self,
        config: Config,
        engine: Reconstructing,
        announced: Announced,
        files: tuple[SinkThread, FileSink],
        stacks: tuple[SinkThread, StackSink],
    ) -> None:
        self._config, self._engine, self._announced = config, engine, announced
        self._files, self._stacks = files, stacks

    def table(self) -> dict[str, Command]:
        """Return each command by name."""
        return {
            "stop": lambda args: self._cut("stopped", args),
            "abort": lambda args: self._cut("aborted", args),
            "enough": self._enough,
            "hold": lambda args: self._engine.hold(held=True),
            "resume": lambda args: self._engine.hold(held=False),
            "forget": lambda args: self._engine.warm.forget(),
            "save": lambda args: self._files[0].soon(self._files[1].save),
            "configure": lambda args: self._announced.note(run_note(args)),
            "arm": lambda args: self._announced.note(run_note(args), arm=True),
            "close": lambda args: self._announced.close(_read(args, _Named).uid),
            "ended": self._ended,
            "past": lambda args: {
                "scans": [self._past(e) for e in self._announced.ends()]
            },
            "settings": lambda args: self._config.model_dump(mode="json"),
            "stack": self._stack,
            "stack_take": self._take,
            "stack_close": lambda args: self._stacks[0].soon(self._stacks[1].close),
        }

    def _cut(self, what: str, args: Mapping[str, Any]) -> None:
        """End the run, or withdraw one that is armed and has no scan yet."""
        which = _read(args, _Which)
        if which.uid and self._announced.withdraw(which.uid):
            return
        self._is_open(which.uid)
        self._engine.cut(which.why or f"{what} by request")

    def _enough(self, args: Mapping[str, Any]) -> None:
        """End the run as complete."""
        asked = _read(args, _Enough)
        self._is_open(asked.uid)
        self._engine.enough(asked.why or "enough by request", refine=asked.refine)

    def _ended(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Tell how a run's reconstruction ended."""
        end = self._announced.end_of(_read(args, _Named).uid)
        return {"ended": end}

    def _past(self, end: Mapping[str, Any]) -> dict[str, Any]:
        """Return how a scan ended, and where its result is."""
        info = RunInfo(end["run"], end["scan"], end["started_s"])
        path = str(self._files[1].path(info)) if end["kept"] else None
        return {**end, "result": path}

    def _stack(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Begin a stack of snapshots; tell where it will be."""
        thread, sink = self._stacks
        request = _read(args, StackRequest)
        path = sink.path(request)
        thread.soon(lambda: sink.open(request))
        return {"path": str(path)}

    def _take(self, args: Mapping[str, Any]) -> None:
        """Have so many snapshots written into the open stack."""
        thread, sink = self._stacks
        count = _read(args, _Count).frames
        thread.soon(lambda: sink.take(count))

    def _is_open(self, uid: str | None) -> None:
        """Refuse what is meant for another run than the open one."""
        state = self._engine.state
        if uid and uid not in (state.raw_uid, state.run, state.scan):
            raise DecodeError(f"run {uid} is not open; open is {state.run or 'none'}")


def _read(args: Mapping[str, Any], kind: type[T]) -> T:
    """Return a request's args; DecodeError says what is wrong."""
    try:
        return msgspec.convert(dict(args), kind)
    except msgspec.ValidationError as error:
        raise DecodeError(f"args: {error}") from error
