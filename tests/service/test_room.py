"""Memory that is not there costs frames of the store, not the scan."""

import subprocess
import sys

import pytest
import torch

from ptystream.errors import ConfigError
from ptystream.recon.reconstruction import Reconstruction
from ptystream.service import room
from ptystream.service.room import made_to_fit
from ptystream.service.scan import Extras, ScanRun
from tests.recon.small_scan import SmallScan
from tests.service.exposures import START, config, exposures

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    MemoryError("Unable to allocate 8 GiB for an array"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["device", "host", "numpy"])
def test_the_store_is_halved_until_there_is_room(error, caplog):
    asked = []

    def make(options):
        asked.append(options.engine.store)
        if options.engine.store > 300:
            raise error
        return options

    made_to_fit(make, config("engine.store=1024").recon())  # type: ignore[arg-type]
    assert asked == [1024, 512, 256]
    assert "engine.store = 512: no memory, so 256" in caplog.text


def test_without_room_for_any_it_is_a_plain_error():
    def make(options):
        raise NO_MEMORY[0]

    with pytest.raises(ConfigError, match=r"engine\.store = 64: no memory"):
        made_to_fit(make, config("engine.store=256").recon())


def test_another_error_is_not_taken_for_it():
    def make(options):
        raise RuntimeError("expected a floating point tensor")

    with pytest.raises(RuntimeError, match="floating"):
        made_to_fit(make, config().recon())


LIMITED = """
import resource
from tests.service.test_room import begun_with
free = 700 << 20
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + free, used + free))
run = begun_with("engine.store=1048576")
print(run.note, run.recon.store.capacity, bool(run.step()))
"""


def begun_with(*flags: str) -> ScanRun:
    extras = Extras(probe=SmallScan().probe[None])
    run = ScanRun(START, config("start.scales=1", *flags), run="r", extras=extras)
    for exposure in exposures():
        run.add(exposure)
    return run


def test_a_scan_goes_on_where_the_system_gives_no_more():
    """A million frames of 24² are 1.2 GB; the process may take 0.7 GiB more."""
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    note, capacity, stepped = ran.stdout.rsplit(" ", 2)
    assert note == f"engine.store = 1048576: no memory, so it is {capacity}"
    assert int(capacity) in (1 << 18, 1 << 19)
    assert stepped.strip() == "True"


def test_the_run_says_so(monkeypatch):
    """At the boundary where memory is asked for: the reconstruction's own store."""

    def made(make, options):
        def refused(asked) -> Reconstruction:
            if asked.engine.store > 1024:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return make(asked)

        return room.made_to_fit(refused, options)

    monkeypatch.setattr("ptystream.service.scan.made_to_fit", made)
    run = begun_with("engine.store=4096")
    assert run.note == "engine.store = 4096: no memory, so it is 1024"
    assert run.step()
