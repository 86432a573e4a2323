"""Nothing waits by the wall clock, which jumps: it is only printed, and sent along."""

import ast
from pathlib import Path

import ptystream

ROOT = Path(ptystream.__file__).parent
PRINTED = {
    "commands/record.py": "when a tape was made",
    "ingest/sender.py": "when a message was sent",
    "publish/control.py": "when a status was made",
    "publish/documents.py": "the time of a document",
    "publish/documents_live.py": "the time of a document",
    "publish/files.py": "when a file was written",
    "publish/pva.py": "the time of an image",
    "publish/stack.py": "the time of a snapshot",
    "service/encoders.py": "when a message was made",
    "service/reconstructing.py": "when a run began",
    "service/scan.py": "when a run began",
    "tape/log.py": "when a tape was made",
    "tape/taps.py": "when a message came, beside the monotonic time",
}
"""Where the time of day is asked for, and what for."""
WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("date", "today")}


def asked(source: str) -> list[str]:
    """Return the wall clocks that a module asks, whatever for."""
    return [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in WALL
    ]


def test_the_time_of_day_is_asked_for_where_it_is_told_and_nowhere_else():
    found = {
        str(path.relative_to(ROOT)): names
        for path in ROOT.rglob("*.py")
        if (names := asked(path.read_text()))
    }
    assert sorted(found) == sorted(PRINTED)


def test_a_wall_clock_would_be_found():
    assert asked("import time\ndeadline_s = time.time() + 5") == ["time.time"]
    assert asked("import time\ndeadline_s = time.monotonic() + 5") == []
