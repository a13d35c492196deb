"""Has the engine judge a structure before a request with it begins."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from vllm.v1.engine.exceptions import EngineGenerateError
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features
from vllm.v1.structured_output.utils import choice_as_grammar

from hotshoe.adapter.errors import Exhausted, InvalidRequest
from hotshoe.serve.structures.processes import BUSY
from hotshoe.wire.structure import Choice, Grammar, JsonSchema, Regex, Structure

Ask = Callable[[str, str], Awaitable[str | None]]
"""Asks the engine for its verdict on a kind and a text, see `Processes.verdict`."""

FIRST_PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.05
RETRY_SECONDS = 1.0

LARGE_CHARACTERS = 4_096
"""A schema of that size is looked through in about a millisecond, which the event loop can spare."""


@contextlib.asynccontextmanager
async def followed(structure: Structure | None, ask: Ask) -> AsyncIterator[None]:
    """Have the engine ready for the structure while the block's request runs; raises as `judged`."""
    if structure is None:
        yield
        return
    await judged(structure, ask)
    try:
        yield
    except EngineGenerateError:
        await judged(structure, ask)  # It says why, if that was the structure.
        raise


async def judged(structure: Structure, ask: Ask) -> None:
    """Return once the engine can follow the structure; takes seconds for one that it does not know.

    Raises InvalidRequest for one that it cannot, or not in bounded time, Exhausted where it follows as many
    as it can.
    """
    if isinstance(structure, JsonSchema):
        await _check_features(structure.schema)
    pause = FIRST_PAUSE_SECONDS
    kind, text = named(structure)
    while (verdict := await ask(kind, text)) is None:
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    if verdict == BUSY:
        raise Exhausted(
            "the server follows as many structures as it can: try again, or ask without one",
            retry_seconds=RETRY_SECONDS,
        )
    if verdict:
        raise InvalidRequest(f"the engine refuses this request: {verdict}")


def named(structure: Structure) -> tuple[str, str]:
    """The kind and the text that it has in the engine."""
    match structure:
        case JsonSchema(schema):
            return "json", schema
        case Regex(pattern):
            return "regex", pattern
        case Grammar(gbnf):
            return "grammar", gbnf
        case Choice(options):
            return "grammar", choice_as_grammar(list(options))


async def _check_features(schema: str) -> None:
    """Raise InvalidRequest for what would be left out of account without a word."""
    small = len(schema) <= LARGE_CHARACTERS
    if _unsupported(schema) if small else await asyncio.to_thread(_unsupported, schema):
        raise InvalidRequest(
            "the engine refuses this request: the JSON schema has features that are not supported: leave out "
            "multipleOf, uniqueItems, contains, propertyNames or patternProperties beside other keywords, "
            "length bounds beside pattern or format, formats that are unknown, and allOf of several"
        )


def _unsupported(schema: str) -> bool:
    return bool(has_xgrammar_unsupported_json_features(json.loads(schema)))
