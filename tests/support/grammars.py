"""Grammars that are of a few lines and take seconds or minutes of whoever follows them."""

from __future__ import annotations

AMBIGUOUS = 'root ::= s\ns ::= "a" | "a" s | s "a" | s s | s s s'
"""Each token takes longer than the one before, over a second at the ninetieth."""

ENDLESS = (
    "root ::= s\ns ::= "
    + " | ".join(f"r{n}" for n in range(1400))
    + "\n"
    + "\n".join(f"r{n} ::= [a-z ]* s [a-z ]* | [a-z ]" for n in range(1400))
)
"""Takes minutes to compile."""
