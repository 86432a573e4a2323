"""``tools/mutate``: a sample of mutants, each against the tests of its module.

It works on a copy of the checkout. A mutant that its tests pass is a survivor: either
a test is missing, or the change makes no difference. Exits 1 if there are any.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tools.mutating.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
ROOMS = "wire", "ingest", "buffers"
_COPIED = "ptystream", "tests", "tools", "pyproject.toml"
_PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0")
Verdict = Literal["killed", "survived", "hung"]


def modules(names: list[str]) -> list[Path]:
    """Return the modules of these names, such as ``wire/cbor``; all without any."""
    package = ROOT / "ptystream"
    if names:
        return [package / f"{name}.py" for name in names]
    found = [path for room in ROOMS for path in sorted((package / room).glob("*.py"))]
    return [path for path in found if path.name != "__init__.py"]


def covering(module: Path) -> list[str]:
    """Return a module's own tests and those that name it; else those of its room."""
    room = module.parent.name
    folder, named = ROOT / "tests" / room, f"ptystream.{room}.{module.stem} import"
    own = sorted(folder.glob(f"test_{module.stem}*.py"))
    others = [path for path in sorted(folder.glob("test_*.py")) if path not in own]
    own += [path for path in others if named in path.read_text()]
    return [f"{path.relative_to(ROOT)}" for path in own or [folder]]


def sample(paths: list[Path], most: int, seed: int) -> Iterator[tuple[Path, Mutant]]:
    """Yield some of all mutants, by lot."""
    every = [(path, mutant) for path in paths for mutant in mutants(path.read_text())]
    chosen = random.Random(seed).sample(range(len(every)), min(most, len(every)))
    print(f"{len(chosen)} of {len(every)} mutants", flush=True)
    for at in sorted(chosen):
        yield every[at]


def _check_as_it_is(copy: Path, path: Path, timeout_s: float) -> None:
    """Exit if the tests don't pass without a mutant, and fail without the module."""
    good = verdict(copy, path, path.read_text(), timeout_s)
    gone = verdict(copy, path, "raise ImportError", timeout_s)
    if (good, gone) != ("survived", "killed"):
        sys.exit(f"{path}: as it is its tests have {good} it, without it {gone}")


def verdict(copy: Path, path: Path, source: str, timeout_s: float) -> Verdict:
    """Run the module's tests on another source of it."""
    place = copy / path.relative_to(ROOT)
    good = place.read_text()
    place.write_text(source)
    command = [sys.executable, "-B", *_PYTEST, *covering(path)]
    try:
        done = subprocess.run(
            command, cwd=copy, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return "hung"
    finally:
        place.write_text(good)
    return "survived" if done.returncode == 0 else "killed"


def main() -> int:
    """Try a sample of mutants; print the survivors as they are found."""
    parser = argparse.ArgumentParser(prog="tools/mutate", description=__doc__)
    parser.add_argument("module", nargs="*", help="such as wire/cbor; default: all")
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=120, help="seconds for each")
    args = parser.parse_args()
    told = {"killed": 0, "survived": 0, "hung": 0}
    with tempfile.TemporaryDirectory(prefix="ptystream-mutants-") as name:
        copy = Path(name)
        for part in _COPIED:
            if (ROOT / part).is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / part, copy / part, ignore=skip)
            else:
                shutil.copy(ROOT / part, copy / part)
        tried: set[Path] = set()
        for path, mutant in sample(modules(args.module), args.mutants, args.seed):
            if path not in tried:
                tried.add(path)
                _check_as_it_is(copy, path, args.timeout)
            result = verdict(copy, path, mutant.source, args.timeout)
            told[result] += 1
            if result == "survived":
                where = f"{path.relative_to(ROOT / 'ptystream')}:{mutant.line}"
                print(f"{where}: {mutant.before} -> {mutant.after}", flush=True)
    print(", ".join(f"{number} {what}" for what, number in told.items()))
    return 1 if told["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
