"""Who may have a process for a structure: a table."""

from __future__ import annotations

from collections import Counter

import pytest

from hotshoe.serve.structures.places import Place, leaving


def places(said: str) -> list[Place]:
    """`A1` is tenant A's, in use; `a1` is tenant A's and idle."""
    return [Place(name, name[0].upper(), idle=name[0].islower()) for name in said.split()]


@pytest.mark.parametrize(
    ("tenant", "held", "expected"),
    [
        ("A", "", []),
        ("A", "A1 A2 A3", []),
        ("A", "A1 A2 A3 A4", None),
        ("B", "A1 A2 A3 A4", []),
        ("B", "A1 A2 A3 A4 B1", []),
        ("B", "A1 A2 A3 A4 B1 B2", None),
        ("C", "A1 A2 A3 A4 B1 B2", []),
        ("C", "A1 A2 A3 A4 B1 B2 C1", None),
        ("D", "A1 A2 A3 A4 B1 B2 C1", []),
        ("E", "A1 A2 A3 A4 B1 B2 C1 D1", None),
        ("A", "A1 a2 A3 a4", ["a2"]),
        ("A", "A1 a2 A3 A4 b1 b2", ["a2"]),
        ("A", "A1 A2 A3 A4 b1 b2", None),
        ("B", "A1 a2 a3 A4 B1 B2", ["a2"]),
        ("I", "a1 b1 c1 d1 e1 f1 g1 h1", ["a1"]),
        ("A", "a1 b1 c1 d1 e1 f1 g1 h1", ["a1"]),
        ("I", "a1 b1 b2 c1 d1 e1 f1 g1", ["b1"]),
    ],
)
def test_a_tenant_takes_what_is_free_then_its_own_then_what_others_have_more_of(
    tenant: str, held: str, expected: list[str] | None
) -> None:
    assert leaving(tenant, places(held), 8) == expected


def test_tenants_that_come_one_after_another_get_half_of_what_is_left_each() -> None:
    held: list[Place] = []
    for tenant in "ABCDEFGH":
        while leaving(tenant, held, 64) == []:
            held.append(Place(f"{tenant}{len(held)}", tenant, idle=False))
    has = Counter(each.tenant for each in held)
    assert [has[tenant] for tenant in "ABCDEFGH"] == [32, 16, 8, 4, 2, 1, 1, 0]
