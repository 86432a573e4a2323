"""One target in a process of its own: libFuzzer ends it in the end.

Run as ``python -m tools.fuzzing.child TARGET MIB FLAG …``, the flags being libFuzzer's.
"""

import resource
import sys

import atheris  # pyright: ignore[reportMissingImports]

instrumented = atheris.instrument_imports  # pyright: ignore[reportAttributeAccessIssue]
with instrumented(include=["ptystream"], enable_loader_override=False):
    from tools.fuzzing.targets import TARGETS


def _limit_memory(mib: int) -> None:
    """Let this process grow by so much and no more: what asks for more fails."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + (mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Fuzz until libFuzzer has had enough; it never returns."""
    name, mib, *flags = sys.argv[1:]
    check = TARGETS[name].make()
    atheris.Setup([name, *flags], check)
    _limit_memory(int(mib))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
