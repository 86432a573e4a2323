"""The mutants that ``tools/mutate`` makes."""

import ast

import pytest

from tools.mutating.__main__ import ROOT, covering, modules
from tools.mutating.mutants import mutants


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("x = a < b", ["x = (a <= b)"]),
        (
            "x = 0 < a <= b",
            ["x = (0 <= a <= b)", "x = (0 < a < b)", "x = (1) < a <= b"],
        ),
        ("x = a + b", ["x = (a - b)"]),
        ("x = a and b", ["x = (a or b)"]),
        ("x = not a", ["x = (a)"]),
        ("x = True", ["x = False"]),
        ("x: Literal[1] = 2", ["x: Literal[1] = (3)"]),
        ("x = 'µ' in a", ["x = ('µ' not in a)"]),
        ("raise E(a)", ["pass"]),
        ("x = f'{a + 1}'", []),
        ("x = a", []),
    ],
)
def test_each_change_is_made_once_and_alone(line: str, changed: list[str]):
    found = mutants(line)
    assert all(mutant.before in line for mutant in found)
    assert all(mutant.before != mutant.after.strip("()") for mutant in found)
    assert [mutant.source for mutant in found] == changed
    assert all(mutant.line == 1 for mutant in found)


def test_what_is_returned_becomes_none():
    (found,) = mutants("def f(a: int = b) -> 'x':\n    return a\n")
    assert (found.line, found.before, found.after) == (2, "return a", "return None")


def test_every_mutant_of_the_package_can_be_read_and_differs():
    path = ROOT / "ptystream" / "wire" / "codecs.py"
    source = path.read_text()
    found = mutants(source)
    assert len(found) > 40
    assert len({mutant.source for mutant in found}) == len(found)
    for mutant in found:
        ast.parse(mutant.source)
        assert mutant.source != source


def test_a_module_is_tried_by_its_own_tests_or_its_rooms():
    every = modules([])
    assert len(every) > 40
    assert covering(modules(["wire/bslz4"])[0]) == ["tests/wire/test_bslz4.py"]
    found = covering(modules(["buffers/store"])[0])
    assert found[0] == "tests/buffers/test_store.py"
    assert "tests/buffers/test_sampling_properties.py" in found
    assert covering(modules(["ingest/events"])[0])[0].startswith("tests/ingest")
