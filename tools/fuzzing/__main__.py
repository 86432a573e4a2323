"""``tools/fuzz``: run targets one after the other, and tell what came of it.

Each target gets its inputs in a process of its own, led by which lines they reach. An
input fails if anything but the promised error is raised, if it takes longer than 10 s,
or if the process grows by more than 256 MiB. Exits 1 if one did.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tools.fuzzing.framing import MESSAGE, PART
from tools.fuzzing.targets import TARGETS

TIMEOUT_S = 10
GROWTH_MIB = 256
MAX_INPUT_BYTES = 1 << 13
_MEMORY = "/dev/shm"  # where it is there, files cost no disk
_DONE = re.compile(r"stat::number_of_executed_units: +(\d+)")
_FEATURES = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One target: inputs, seconds, branches reached, and what failed."""

    target: str
    inputs: int
    seconds: float
    reached: int
    ok: bool
    said: str


def fuzz(target: str, runs: int, seconds: int, found: Path) -> Outcome:
    """Run one target; failing inputs are left in ``found``."""
    memory = _MEMORY if os.path.isdir(_MEMORY) else None
    with tempfile.TemporaryDirectory(prefix="ptystream-fuzz-", dir=memory) as name:
        folder = Path(name)
        corpus = _corpus(folder, target)
        flags = [
            f"-runs={runs}",
            f"-max_total_time={seconds}",
            f"-timeout={TIMEOUT_S}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-dict={folder / 'dictionary'}",
            f"-artifact_prefix={found / target}-",
            "-print_final_stats=1",
            "-rss_limit_mb=0",
        ]
        command = [sys.executable, "-m", "tools.fuzzing.child", target]
        began_s = time.monotonic()
        run = subprocess.run(
            [*command, f"{GROWTH_MIB}", *flags, f"{corpus}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "TMPDIR": name},
        )
    taken_s = time.monotonic() - began_s
    done, reached = _DONE.findall(run.stdout), _FEATURES.findall(run.stdout)
    return Outcome(
        target=target,
        inputs=int(done[-1]) if done else 0,
        seconds=taken_s,
        reached=int(reached[-1][0]) if reached else 0,
        ok=run.returncode == 0 and bool(done),
        said=run.stdout[-3000:],
    )


def _corpus(folder: Path, target: str) -> Path:
    """Write what the fuzzer begins with: seeds, and the words between parts."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(TARGETS[target].seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in (PART, MESSAGE))
    (folder / "dictionary").write_text("".join(f'"{word}"\n' for word in words))
    return corpus


def main() -> int:
    """Run the targets that are asked for, or all."""
    parser = argparse.ArgumentParser(prog="tools/fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--runs", type=int, help="inputs; default: a million for most")
    parser.add_argument("--seconds", type=int, default=0, help="most for each target")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    args = parser.parse_args()
    if unknown := set(args.target) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}")
    args.found.mkdir(parents=True, exist_ok=True)
    good = True
    for name in args.target or TARGETS:
        runs = TARGETS[name].runs if args.runs is None else args.runs
        outcome = fuzz(name, runs, args.seconds, args.found)
        good &= outcome.ok
        verdict = "ok" if outcome.ok else "FAILED"
        print(
            f"{name:14}{outcome.inputs:>10} inputs {outcome.seconds:>7.0f} s "
            f"{outcome.reached:>6} branches  {verdict}",
            flush=True,
        )
        if not outcome.ok:
            print(outcome.said)
    with contextlib.suppress(OSError):  # it holds what failed
        args.found.rmdir()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
