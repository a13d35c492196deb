"""The page for users names every finding there is, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import hotshoe.registry.inspect as package

PAGE = Path(__file__).parents[3] / "docs" / "trust.md"
NOT_FINDINGS = {
    "UNSERVABLE",
    "TAMPERED",
    "UNTRUSTED",
    "HOTSHOE_TRUST",
    "HOTSHOE_SIGNING_KEY",
    "HOTSHOE_KEY_PASSPHRASE",
}
MAKERS = {"error", "warning", "_bad", "_refuse"}


def codes(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        inside = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS
        table = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_REFUSED_OPTIONS"
        if inside or table:
            texts = (
                n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            )
            yield from (text for text in texts if re.fullmatch(r"[A-Z]+(_[A-Z]+)*", text) and len(text) > 3)


def test_every_code_is_on_the_page() -> None:
    used = {code for path in Path(package.__path__[0]).glob("*.py") for code in codes(path.read_text())}
    told = set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", " ".join(re.findall(r"`([^`\n]+)`", PAGE.read_text()))))
    assert used - {"LORA"} == told - NOT_FINDINGS
