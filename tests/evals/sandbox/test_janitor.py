"""What is left when powercut is killed is ended and removed by another process."""

import os

from powercut.evals.sandbox.janitor import Janitor, remove_folder
from tests.evals.sandbox.test_reach import wait_until


def test_a_janitor_that_was_killed_is_replaced(tmp_path):
    janitor = Janitor()
    (tmp_path / "a").mkdir()
    janitor.watch(str(tmp_path / "a"))
    janitor._process.kill()
    janitor._process.wait()
    (tmp_path / "b").mkdir()
    janitor.watch(str(tmp_path / "b"))
    (tmp_path / "c").mkdir()
    janitor.watch(str(tmp_path / "c"))
    janitor.forget(str(tmp_path / "c"))
    del janitor
    wait_until(lambda: [folder.name for folder in tmp_path.iterdir()] == ["c"])


def test_a_folder_is_removed_however_deep(tmp_path):
    """Deeper than Python nests calls and than a path is long; links are not followed."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    top = tmp_path / "top"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for number in range(1100):
        name = "d" * 10
        os.mkdir(name, dir_fd=at)
        if number % 100 == 0:
            os.symlink(tmp_path / "kept", "link", dir_fd=at)
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
            os.mkdir("beside", 0, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    remove_folder(str(top))
    assert not top.exists()
    assert (tmp_path / "kept" / "file").exists()
    remove_folder(str(top))  # already gone
