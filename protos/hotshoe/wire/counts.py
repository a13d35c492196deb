"""Counts what a request has many of, before any of it is made to values.

To make a million of them takes a second, and a server's event loop waits; a message has room for them.
"""

from __future__ import annotations

from hotshoe.v1 import inference_pb2 as pb
from hotshoe.wire.structure import MOST_OPTIONS
from hotshoe.wire.values import (
    MOST_BIASES,
    MOST_MESSAGES,
    MOST_STOP_IDS,
    MOST_STOPS,
    MOST_TOKENS,
    check_count,
)


def check_counts(message: pb.Generation) -> None:
    """Raise InvalidRequest for a request that has more of something than its values may have."""
    sampling = message.sampling
    check_count("a chat", "messages", len(message.chat.messages), MOST_MESSAGES)
    check_count("tokens", "ids", len(message.tokens.ids), MOST_TOKENS)
    check_count("stop", "strings", len(sampling.stop), MOST_STOPS)
    check_count("stop_token_ids", "ids", len(sampling.stop_token_ids), MOST_STOP_IDS)
    check_count("logit_bias", "tokens", len(sampling.logit_bias), MOST_BIASES)
    check_count("choice", "texts", len(sampling.choice.options), MOST_OPTIONS)
