"""Checks docs/scale.md: replicas with a host cache each, under Zipf traffic, without serving a token.

`python -m benchmarks.simulate` prints the table in docs/scale.md. Traffic is spread over the replicas at
random, or by rendezvous hashing of the adapter over `COPIES` replicas.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

COPIES = 2
SAMPLED_REPLICAS = 8
REQUESTS = 40_000
"""By replica; the first half warms the caches and is not counted."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many adapters and replicas, what a replica keeps, and how skewed traffic is."""

    adapters: int
    replicas: int
    cached: int
    zipf: float
    routed: bool


def miss_rate(fleet: Fleet, *, seed: int = 0) -> float:
    """The share of requests whose adapter is not in the cache of the replica that gets them."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, fleet.adapters + 1) ** fleet.zipf
    missed = counted = 0
    for replica in range(min(SAMPLED_REPLICAS, fleet.replicas)):
        mine = _routed_here(fleet, replica, random) if fleet.routed else np.arange(fleet.adapters)
        share = weights[mine] / weights[mine].sum()
        asked = mine[
            np.searchsorted(np.cumsum(share), random.random(REQUESTS), side="right").clip(max=len(mine) - 1)
        ]
        held: OrderedDict[int, None] = OrderedDict()
        for number, adapter in enumerate(asked.tolist()):
            hit = adapter in held
            held[adapter] = None
            held.move_to_end(adapter)
            if len(held) > fleet.cached:
                held.popitem(last=False)
            if number >= REQUESTS // 2:
                counted += 1
                missed += not hit
    return missed / counted


def _routed_here(fleet: Fleet, replica: int, random: np.random.Generator) -> np.ndarray:
    """The adapters that hashing gives to a replica: each goes to COPIES of all replicas."""
    chance = min(1.0, COPIES / fleet.replicas)
    return np.flatnonzero(random.random(fleet.adapters) < chance)


def main() -> None:
    print(f"{'adapters':>9} {'replicas':>8} {'cached':>6} {'zipf':>4} {'any replica':>11} {'routed':>7}")
    for adapters, replicas in ((1_000, 1), (10_000, 10), (100_000, 100), (1_000_000, 1_000)):
        for zipf in (0.8, 1.0, 1.2):
            rates = [miss_rate(Fleet(adapters, replicas, 1_000, zipf, routed)) for routed in (False, True)]
            print(f"{adapters:>9} {replicas:>8} {1_000:>6} {zipf:>4} {rates[0]:>11.1%} {rates[1]:>7.1%}")


if __name__ == "__main__":
    main()
