"""The rules of the house that no other tool checks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOTS = ("registry", "serve", "train", "client", "protos")
LONGEST_FILE = 400
LONGEST_TEST = 450


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (HOUSE / each for each in listed.stdout.split("\0") if each)
    return [path for path in paths if path.exists() and "_pb2" not in path.name]


@pytest.mark.parametrize("root", ROOTS)
def test_the_namespace_is_shared_by_all_roots(root: str) -> None:
    """An `__init__.py` in one of them would hide all the others."""
    assert (HOUSE / root / "hotshoe").is_dir()
    assert not (HOUSE / root / "hotshoe" / "__init__.py").exists()


def test_every_package_says_that_it_is_typed() -> None:
    packages = [each for root in ROOTS for each in (HOUSE / root / "hotshoe").iterdir() if each.is_dir()]
    packages = [each for each in packages if each.name != "__pycache__"]
    assert packages
    assert not [each for each in packages if not (each / "py.typed").exists()]


def ours(path: Path) -> bool:
    return path.relative_to(HOUSE).parts[0] in ROOTS


def test_no_file_is_longer_than_two_ideas() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources()}
    most = {True: LONGEST_FILE, False: LONGEST_TEST}
    too_long = {str(path): length for path, length in lengths.items() if length > most[ours(path)]}
    assert not too_long


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in sources() if ours(path) and not path.read_text().startswith('"""')]
    assert not silent


def test_there_is_no_drawer_named_utils() -> None:
    assert not [path for path in sources() if path.stem in ("utils", "util", "helpers", "common", "misc")]
