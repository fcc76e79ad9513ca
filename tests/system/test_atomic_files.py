from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sslbench.system.atomic_files import write_atomically, write_text_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_and_replaced_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for text in ("first\n", "zweite Fassung äöü\n", ""):
        write_text_atomically(path, text)
        assert path.read_bytes() == text.encode("utf-8")
    assert names(tmp_path) == ["status.json"]


def test_the_old_content_stands_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    parts: list[Path] = []

    def write(part: Path) -> None:
        part.write_text("ne")
        parts.append(part)
        assert path.read_text() == "old"
        part.write_text("new")

    write_atomically(path, write)
    assert path.read_text() == "new"
    # A rename is atomic within one folder only; a hidden name is taken for no result.
    assert parts[0].parent == tmp_path
    assert parts[0].name.startswith(".")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ValueError("other"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("existed", [True, False])
def test_a_failing_write_leaves_what_was(tmp_path: Path, error: BaseException, existed: bool) -> None:
    path = tmp_path / "file"
    if existed:
        path.write_text("old")

    def half(part: Path) -> None:
        part.write_text("half of the ne")
        raise error

    with pytest.raises(type(error)) as caught:
        write_atomically(path, half)
    assert caught.value is error
    assert names(tmp_path) == (["file"] if existed else [])
    assert not existed or path.read_text() == "old"


def test_a_write_that_writes_nothing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_atomically(path, lambda part: None)
    assert path.read_text() == "old"


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_text_atomically(tmp_path / "file", "new")
    assert names(tmp_path) == ["file"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text_atomically(tmp_path / "absent" / "file", "new")
    assert names(tmp_path) == []


def test_content_is_synced_before_it_gets_its_name_and_the_name_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    synced: list[tuple[int, bool]] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, path.exists()))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text_atomically(path, "new")
    assert synced == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_leftovers_of_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".file.1.part").write_text("half")
    write_text_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_what_was_there_before_is_kept_under_another_name(tmp_path: Path) -> None:
    path, previous = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two", "three"):
        write_atomically(path, lambda part, text=text: part.write_text(text), previous)
    assert (path.read_text(), previous.read_text()) == ("three", "two")
    assert names(tmp_path) == ["last", "previous"]


def test_a_failing_write_leaves_both(tmp_path: Path) -> None:
    path, previous = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two"):
        write_atomically(path, lambda part, text=text: part.write_text(text), previous)
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda part: 1 / 0, previous)
    assert (path.read_text(), previous.read_text()) == ("two", "one")
