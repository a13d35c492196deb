"""Has the engine judge a structure before a request with it begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features
from vllm.v1.structured_output.utils import choice_as_grammar

from hotshoe.adapter.errors import Exhausted, InvalidRequest
from hotshoe.serve.structures.processes import BUSY, UNKNOWN
from hotshoe.serve.structures.wanted import Wanted
from hotshoe.wire.structure import Choice, Grammar, JsonSchema, Regex, Structure

Ask = Callable[[str, Wanted | None], Awaitable[str | None]]
"""Asks the engine for its verdict on a key, see `Processes.verdict`."""

FIRST_PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.05
RETRY_SECONDS = 1.0

ALL_WAITING_SECONDS = 0.0025
"""For each that waits, between two questions of one: together they ask the engine 400 times a second at most,
which it answers between two steps. With 800 of them that is as late as ABANDONED_SECONDS allows."""

LARGE_CHARACTERS = 4_096
"""A schema of that size is looked through in about a millisecond, which the event loop can spare."""


class Judge:
    """Has the engine judge structures, for all requests of one server. Belongs to one event loop."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting = 0

    async def judge(self, wanted: Wanted) -> None:
        """Return once the engine can follow the structure; takes seconds for one that it does not know.

        Raises InvalidRequest for one that it cannot, or not in bounded time, Exhausted where it follows as
        many as it can, or as the tenant may have.
        """
        verdict = await self._verdict(wanted)
        if verdict == BUSY:
            raise exhausted()
        if verdict:
            raise InvalidRequest(f"the engine refuses this request: {verdict}")

    async def _verdict(self, wanted: Wanted) -> str:
        pause = FIRST_PAUSE_SECONDS
        self._waiting += 1
        try:
            verdict = await self._ask(wanted.key, None)
            while verdict is None or verdict == UNKNOWN:
                if verdict is None:
                    await asyncio.sleep(max(pause, self._waiting * ALL_WAITING_SECONDS))
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                    verdict = await self._ask(wanted.key, None)
                else:
                    await _check_features(wanted)
                    verdict = await self._ask(wanted.key, wanted)
        finally:
            self._waiting -= 1
        return verdict


def exhausted() -> Exhausted:
    """There is no process for the structure, for now."""
    return Exhausted(
        "the server follows as many structures as it can for you: try again, or ask without one",
        retry_seconds=RETRY_SECONDS,
    )


def wanted(structure: Structure, tenant: str) -> Wanted:
    """The structure under the name that it has in the engine."""
    return Wanted.of(tenant, *_named(structure))


def _named(structure: Structure) -> tuple[str, str]:
    match structure:
        case JsonSchema(schema):
            return "json", schema
        case Regex(pattern):
            return "regex", pattern
        case Grammar(gbnf):
            return "grammar", gbnf
        case Choice(options):
            return "grammar", choice_as_grammar(list(options))


async def _check_features(wanted: Wanted) -> None:
    """Raise InvalidRequest for a schema with what would be left out of account without a word."""
    if wanted.kind != "json":
        return
    small = len(wanted.text) <= LARGE_CHARACTERS
    if _unsupported(wanted.text) if small else await asyncio.to_thread(_unsupported, wanted.text):
        raise InvalidRequest(
            "the engine refuses this request: the JSON schema has features that are not supported: leave out "
            "multipleOf, uniqueItems, contains, propertyNames or patternProperties beside other keywords, "
            "length bounds beside pattern or format, formats that are unknown, and allOf of several"
        )


def _unsupported(schema: str) -> bool:
    return bool(has_xgrammar_unsupported_json_features(json.loads(schema)))
