"""A simulated beamline as one flyer: motor, detector and encoder box in a process."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bluesky.protocols import Stoppable
from ophyd_async.core import FlyableLogic, StandardFlyable, soft_signal_r_and_setter

from ptystream.errors import StoppedError

START_S = 60.0
STOP_S = 10.0


@dataclass
class _SimulatedFly(FlyableLogic[Mapping[str, Any], None]):
    beamline: "SimulatedBeamline"

    async def on_prepare(self, value: Mapping[str, Any]) -> None:
        self.beamline.settings = [
            f"--set={k}={json.dumps(v)}" for k, v in value.items()
        ]

    async def on_kickoff(self, ctx: None) -> None:
        await self.beamline.begin()

    async def on_complete(self, ctx: None) -> None:
        await self.beamline.ended()

    async def stop(self) -> None:
        await self.beamline.halt()


class SimulatedBeamline(StandardFlyable, Stoppable):
    """Flies a scan of ``ptystream simulate`` to the streams of a running service.

    ``prepare`` takes the simulator's settings (``{"scan.shape": [20, 20]}``),
    ``kickoff`` starts the process, ``complete`` waits for the scan's end, ``stop`` ends
    it at once: stage and detector stop, and both streams say so.

    Args:
        detector: where frames are sent from, ``tcp://host:port``; never port 0.
        encoder: where positions are sent from.
        preset: the simulated scan.
        flags: further flags of ``ptystream simulate``.
        name: the device's.

    Attributes:
        frames: how many the detector has sent, known when a scan has ended.
    """

    def __init__(
        self,
        detector: str,
        encoder: str,
        preset: str = "demo",
        flags: Sequence[str] = (),
        name: str = "",
    ) -> None:
        self._words = [f"--preset={preset}", *flags]
        self._words += [f"--set=detector.address={detector}"]
        self._words += [f"--set=encoder.address={encoder}"]
        self.settings: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._halted = False
        self.frames, self._set_frames = soft_signal_r_and_setter(int)
        super().__init__(name=name)

    @cached_property
    def flyable_logic(self) -> _SimulatedFly:
        """What prepare, kickoff, complete, stage and unstage do."""
        return _SimulatedFly(self)

    async def begin(self) -> None:
        """Start the process; return once both its senders are bound.

        Raises:
            StoppedError: it ended, or said nothing in time.
        """
        self._halted = False
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ptystream", "simulate", "--quiet"),
            *(*self._words, *self.settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the plan's to handle
        )
        try:
            await asyncio.wait_for(self._line(), START_S)
        except TimeoutError:
            await self.halt()
            raise StoppedError(f"{self.name}: no sender in {START_S:g} s") from None

    async def ended(self) -> None:
        """Return when the scan has ended, however it did."""
        if self._process is None:
            return
        report = await self._line()
        if report is not None:
            self._set_frames(int(report["detector"]["items"]))
        await self._process.wait()
        self._process = None

    async def halt(self) -> None:
        """End the scan; the process is killed if it takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._halted = True
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def stop(self, success: bool = True) -> None:
        """End the scan."""
        await self.halt()

    async def _line(self) -> dict[str, Any] | None:
        """Return the next line of JSON that it says; None if it was halted before."""
        process = self._process
        line = b""
        if process is not None and process.stdout is not None:
            line = await process.stdout.readline()
        if not line and self._halted:
            return None
        if not line:
            raise StoppedError(f"{self.name}: the simulated beamline ended early")
        return json.loads(line)
