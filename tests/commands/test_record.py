import re

from ptystream.commands.record import tape_path


def test_in_a_folder_a_tape_is_named_by_the_time(tmp_path):
    named = tape_path(tmp_path)
    assert named.parent == tmp_path
    assert re.fullmatch(r"\d{8}T\d{6}Z\.tape", named.name)


def test_else_it_is_the_file_that_was_named(tmp_path):
    assert tape_path(tmp_path / "scan.tape") == tmp_path / "scan.tape"
