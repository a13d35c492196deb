"""What a caller asks for and what comes back, as plain values that know no protocol."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from hotshoe.adapter.errors import EmptyPrompt, InvalidRequest
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterRef
from hotshoe.wire.structure import Structure

ROLES = ("system", "user", "assistant", "tool")

MOST_MESSAGES = 4_096
MOST_TOKENS = 1 << 20
MOST_STOPS = 16
MOST_STOP_IDS = 64
MOST_BIASES = 300
"""Of one request. More would take long to look at, wherever it is found out that they are too many."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; role is one of ROLES."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidRequest(f"role {self.role!r} is unknown: use one of {', '.join(ROLES)}")


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages, at most MOST_MESSAGES, to be rendered through the base's chat template."""

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        check_count("a chat", "messages", len(self.messages), MOST_MESSAGES)
        if not any(message.content for message in self.messages):
            raise EmptyPrompt("the chat has no text: give at least one message with content")


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text, tokenized as it stands."""

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise EmptyPrompt("the prompt is empty: give at least one character")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of the base's vocabulary, at most MOST_TOKENS."""

    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        check_count("tokens", "ids", len(self.ids), MOST_TOKENS)
        if not self.ids:
            raise EmptyPrompt("the prompt is empty: give at least one token id")


Prompt = Chat | Text | Tokens


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. None means: what the base's generation config says.

    temperature: 0 (greedy) to 2. top_p: over 0, at most 1. top_k: 0 (off) or more. min_p: 0 to 1.
    penalties: repetition over 0 to 2; presence and frequency -2 to 2. seed: any 63-bit number.
    max_tokens: output tokens at most, over 0; None means as many as the context holds.
    stop: strings that end the answer (at most 16, not empty, at most 256 characters each).
    n: different answers, 1 to 8. logprobs: tell each token's, and those of that many likelier ones, 0 to
    20. logit_bias: (token id, -100 to 100), at most 300. structure: what the answer must look like.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    n: int = 1
    logprobs: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    structure: Structure | None = None

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0, 2)
        _within("top_p", self.top_p, 0, 1, low_open=True)
        _within("top_k", self.top_k, 0, 2**31 - 1)
        _within("min_p", self.min_p, 0, 1)
        _within("repetition_penalty", self.repetition_penalty, 0, 2, low_open=True)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        _within("seed", self.seed, 0, 2**63 - 1)
        _within("max_tokens", self.max_tokens, 1, 2**31 - 1)
        _within("min_tokens", self.min_tokens, 0, 2**31 - 1)
        if self.max_tokens is not None and (self.min_tokens or 0) > self.max_tokens:
            raise InvalidRequest(f"min_tokens {self.min_tokens} is over max_tokens {self.max_tokens}")
        if len(self.stop) > MOST_STOPS or any(not 0 < len(stop) <= 256 for stop in self.stop):
            raise InvalidRequest(f"stop takes at most {MOST_STOPS} strings of 1 to 256 characters each")
        check_count("stop_token_ids", "ids", len(self.stop_token_ids), MOST_STOP_IDS)
        _within("n", self.n, 1, 8)
        _within("logprobs", self.logprobs, 0, 20)
        check_count("logit_bias", "tokens", len(self.logit_bias), MOST_BIASES)
        for _, bias in self.logit_bias:
            _within("logit_bias", bias, -100, 100)


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One request: a prompt, an adapter (None is the base itself) and how to sample.

    session: keeps a user on one side of an alias that splits; empty for none. priority: orders one
    tenant's own requests in line, more first, -100 to 100.
    """

    prompt: Prompt
    adapter: AdapterRef | None = None
    sampling: Sampling = field(default_factory=Sampling)
    session: str = ""
    priority: int = 0

    def __post_init__(self) -> None:
        _within("priority", self.priority, -100, 100)
        if len(self.session) > 256:
            raise InvalidRequest(f"session has {len(self.session)} characters: give at most 256")


class FinishReason(enum.Enum):
    """Why an answer ended: STOP by itself or a stop string, LENGTH at max_tokens or the context's end."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Who answers: the base, and the adapter's version if one was asked for."""

    base: Base
    adapter: str = ""
    version: str = ""
    commit: str = ""
    manifest_sha256: str = ""

    def __str__(self) -> str:
        return f"{self.adapter}@{self.version}" if self.adapter else "base"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in and out, and where the time went (milliseconds)."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    load_ms: float = 0.0
    first_token_ms: float = 0.0
    queue_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was (natural logarithm), and the likeliest in its place, likeliest first."""

    token_id: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer number `index`. logprobs: one a token if they were asked for."""

    text: str
    token_ids: tuple[int, ...] = ()
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer number `index`. usage: of all answers so far."""

    reason: FinishReason
    usage: Usage
    index: int = 0


Event = Resolved | Delta | Finished
"""A stream is one Resolved, any number of Delta, and a Finished for each answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. logprobs: one a token if they were asked for."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Whole answers, one unless more were asked for; `text` and its neighbours are the first one's."""

    resolved: Resolved
    answers: tuple[Answer, ...]
    usage: Usage

    @property
    def text(self) -> str:
        return self.answers[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.answers[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        return self.answers[0].finish_reason

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        return self.answers[0].logprobs


@dataclass(frozen=True, slots=True)
class AdapterSummary:
    """An adapter as a caller sees it: `org/name`, its aliases (name -> version tag) and latest version."""

    adapter: str
    latest: str
    aliases: Mapping[str, str]
    resident: tuple[str, ...] = ()


def check_count(what: str, of: str, count: int, most: int) -> None:
    """Raise InvalidRequest if there are more than that."""
    if count > most:
        raise InvalidRequest(f"{what} takes at most {most} {of}: this one has {count}")


def _within(name: str, value: float | None, low: float, high: float, *, low_open: bool = False) -> None:
    if value is None:
        return
    if not math.isfinite(value) or value < low or value > high or (low_open and value == low):
        edge = "over" if low_open else "from"
        raise InvalidRequest(f"{name} is {value}: give a number {edge} {low} to {high}")
