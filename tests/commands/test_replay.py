import argparse

import pytest

from ptystream.commands.fault_flags import faults_of
from ptystream.commands.replay import add_arguments
from ptystream.errors import ConfigError
from ptystream.tape.faults import Faults


def faults(*words: str) -> Faults:
    parser = argparse.ArgumentParser()
    add_arguments(parser, "replay")
    return faults_of(parser.parse_args(["scan.tape", *words]))


def test_without_flags_there_are_no_faults() -> None:
    assert faults().build() == []


def test_every_fault_has_a_flag() -> None:
    asked = faults(
        *("--drop=0.1", "--duplicate=0.2", "--reorder=0.3", "--truncate=0.4"),
        *("--corrupt=0.5", "--jitter=0.01", "--delay=pos=0.4", "--delay=det=1"),
        *("--position-lag=3", "--no-start=det", "--no-end=det", "--no-end=pos"),
        *("--abort-after=9", "--restart-after=7", "--flatten", "--seed=5"),
    )
    assert asked == Faults(
        drop=0.1,
        duplicate=0.2,
        reorder=0.3,
        truncate=0.4,
        corrupt=0.5,
        jitter_s=0.01,
        late_s={"pos": 0.4, "det": 1.0},
        position_lag=3,
        no_start=["det"],
        no_end=["det", "pos"],
        abort_after=9,
        restart_after=7,
        flatten=True,
        seed=5,
    )


@pytest.mark.parametrize("wrong", ["pos", "pos=late", "=1e"])
def test_a_wrong_delay_is_explained(wrong: str) -> None:
    with pytest.raises(ConfigError, match="STREAM=SECONDS"):
        faults(f"--delay={wrong}")
