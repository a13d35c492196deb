"""The table of the contract suite in docs names every behaviour that the suite holds the stores to."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_docs_list_what_the_suite_tests() -> None:
    files = sorted((ROOT / "tests" / "contract" / "store").glob("test_*.py"))
    names = [
        name for file in files for name in re.findall(r"^(?:async )?def test_(\w+)", file.read_text(), re.M)
    ]
    rows = re.findall(r"^\| (\w.*?) \|", (ROOT / "docs" / "contract.md").read_text(), re.M)
    assert rows == [name.replace("_", " ") for name in names], "run scripts/contract_table.py"
