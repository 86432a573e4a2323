"""A beamline's session must not load torch: seconds, and gigabytes, for nothing."""

import subprocess
import sys

import pytest

MODULES = (
    "adaptive callbacks device documents images link peer plans recorded refine "
    "signals simulated suspender targets values"
).split()


@pytest.mark.system
def test_nothing_beneath_it_is_torch():
    code = "".join(f"import ptystream.bluesky.{name}\n" for name in MODULES)
    code += "import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_module_is_forgotten():
    from importlib.resources import files

    there = {p.name[:-3] for p in files("ptystream.bluesky").iterdir()}
    assert there - {"__init__", "__pycac", ""} == set(MODULES)
