"""Run the contract suite of the stores and write what each of them did to docs/contract.md.

python scripts/contract_table.py
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUITE = ROOT / "tests" / "contract" / "store"
PAGE = ROOT / "docs" / "contract.md"

HEAD = """# What every store does

One suite, `tests/contract/store/`, runs on every place that a registry can be kept in: a folder (`local`),
and the Hub (`hub`), here against a server that speaks what the real client sends. Set
`HOTSHOE_HUB_TEST_REPO` and a token, and it runs against the real Hub too. This page is what
`python scripts/contract_table.py` found.
"""

_RUN = re.compile(r"tests/contract/store/test_(\w+)\.py::test_(\w+)\[(.+)\]")
_MARKS = {"passed": "yes", "failed": "**no**", "skipped": "not run"}


class Results:
    """A plugin that remembers how every test of the suite ended."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (match := _RUN.fullmatch(report.nodeid)) and (report.when == "call" or not report.passed):
            subject, behaviour, parameters = match.groups()
            place = re.sub(r"^.*?(real hub|hub|local).*$", r"\1", parameters)
            row = self.seen[subject][behaviour]
            # A behaviour with many cases holds where all of them do.
            row[place] = "failed" if "failed" in (row.get(place), report.outcome) else report.outcome

    def page(self) -> str:
        places = sorted({place for rows in self.seen.values() for row in rows.values() for place in row})
        parts = [HEAD]
        for subject, rows in self.seen.items():
            heads = "".join(f" {place} |" for place in places)
            parts.append(f"\n## {subject.replace('_', ' ').capitalize()}\n\n")
            parts.append(f"| |{heads}\n| --- |{' --- |' * len(places)}\n")
            for behaviour, row in rows.items():
                marks = "".join(f" {_MARKS[row[place]] if place in row else ''} |" for place in places)
                parts.append(f"| {behaviour.replace('_', ' ')} |{marks}\n")
        return "".join(parts)


def main() -> int:
    results = Results()
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(SUITE)], plugins=[results])
    PAGE.write_text(results.page())
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
