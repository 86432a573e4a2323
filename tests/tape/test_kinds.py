from ptystream.tape.format import Record
from ptystream.tape.kinds import Marked, marked
from ptystream.wire import native
from ptystream.wire.messages import Heartbeat, ScanStart
from tests.tape.scan_records import records


def test_every_record_of_a_scan_is_known_for_what_it_is() -> None:
    tape = records(12)
    found = [(m.record.stream, m.kind, m.scan, m.index) for m in marked(tape)]
    frames = [("det", "frame", "s", i) for i in range(12)]
    assert found == [
        ("det", "start", "s", -1),
        ("pos", "start", "s", -1),
        ("pos", "samples", "s", -1),
        *frames[:10],
        ("pos", "samples", "s", -1),
        *frames[10:],
        ("pos", "end", "s", -1),
        ("det", "end", "s", -1),
    ]
    assert [m.record for m in marked(tape)] == tape


def test_reminders_heartbeats_and_junk_are_told_apart() -> None:
    parts = [
        native.encode(ScanStart("s", "det", again=True), seq=3, sent_ns=1),
        native.encode(Heartbeat("s", "det"), seq=4, sent_ns=1),
        [b"junk"],
        [],
    ]
    tape = [Record("det", tuple(p), i, 0) for i, p in enumerate(parts)]
    found = [(m.kind, m.scan) for m in marked(tape)]
    assert found == [("again", "s"), ("other", "s"), ("other", ""), ("other", "")]


def test_a_message_that_takes_several_records_is_known_by_the_last() -> None:
    whole = records(1)[3]

    def patient():
        parts: list[bytes | memoryview] = []

        def decode(one):
            parts.extend(one)
            return [native.decode(parts)] if len(parts) == 3 else []

        return {"det": decode}

    tape = [Record("det", (part,), 0, 0) for part in whole.parts]
    kinds = [m.kind for m in marked(tape, patient)]
    assert kinds == ["other", "other", "frame"]


def test_a_mark_keeps_what_it_says_when_its_record_changes() -> None:
    one, other = records(2)[:2]
    assert Marked(one, "frame", "s", 3).as_record(other) == Marked(
        other, "frame", "s", 3
    )
