"""A folder on its way to become a version, and who changes it meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from support.adapters import SUPPORT
from support.desk import Desk

from hotshoe.adapter.errors import Unservable
from hotshoe.adapter.manifest import MANIFEST_PATH
from hotshoe.registry import inspect as inspecting
from hotshoe.registry import publishing


@contextmanager
def a_link_while_it_is_copied(path: Path, elsewhere: Path) -> Iterator[None]:
    """`path` is a file whenever it is looked at, and a link to `elsewhere` in between."""
    aside, met = path.with_name("aside"), []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "return" and frame.f_code is inspecting.version_files.__code__:
            path.rename(aside)
            path.symlink_to(elsewhere)
            met.append(event)
        if event == "call" and frame.f_code is inspecting.inspect.__code__:
            aside.rename(path)

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
    assert met == ["return"]


def hidden(path: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"{}")
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("leave", "says"),
    [
        (lambda path, other: path.write_bytes(b"{}"), "delete it and name the base with --base"),
        (lambda path, other: path.write_bytes(b"[" * 100_000), "delete it and name the base with --base"),
        (lambda path, other: path.write_bytes(b" " * (5 << 20)), "over the limit"),
        (lambda path, other: os.mkfifo(path), "is no regular file"),
        (hidden, "cannot be read"),
    ],
)
def test_a_manifest_that_no_training_run_left_is_refused_with_what_to_do(
    desk: Desk, tmp_path: Path, leave: Callable[[Path, Path], object], says: str
) -> None:
    path = desk.adapter(1) / MANIFEST_PATH
    path.parent.mkdir()
    leave(path, tmp_path / "elsewhere")
    with pytest.raises(Unservable, match=says):
        desk.publish(1)


def test_a_file_that_becomes_a_link_while_it_is_published_is_never_followed(
    desk: Desk, tmp_path: Path
) -> None:
    folder, secret = desk.adapter(1), tmp_path / "secret.json"
    secret.write_bytes((folder / "adapter_config.json").read_bytes().replace(b"{", b"{ ", 1))
    with (
        desk.registry.store.staging() as staging,
        a_link_while_it_is_copied(folder / "adapter_config.json", secret),
        pytest.raises(Unservable, match=r"adapter_config\.json: cannot be read"),
    ):
        publishing.draft_version(folder, SUPPORT, desk.base, staging)
