"""Values to messages and back."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.adapter.errors import EmptyPrompt, InvalidReference, InvalidRequest
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterName, AdapterRef, Alias, VersionNumber
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.wire import messages
from hotshoe.wire.structure import Choice, Grammar, JsonSchema, Regex
from hotshoe.wire.values import (
    ROLES,
    AdapterSummary,
    Answer,
    Chat,
    Completion,
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Resolved,
    Sampling,
    Text,
    TokenLogprob,
    Tokens,
    Usage,
)

texts = st.text(st.characters(codec="utf-8"), max_size=30)
some_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
ids = st.lists(st.integers(0, 2**32 - 1), max_size=8).map(tuple)
counts = st.integers(0, 2**32 - 1)
times = st.floats(0, 1e12)
logs = st.floats(-1e3, 0)

chats = (
    st.lists(st.builds(Message, st.sampled_from(ROLES), texts), min_size=1, max_size=4)
    .map(tuple)
    .filter(lambda turns: any(turn.content for turn in turns))
    .map(Chat)
)
prompts = st.one_of(chats, st.builds(Text, some_text), st.builds(Tokens, ids.filter(bool)))
word = some_text.filter(str.strip)
structures = st.one_of(
    st.none(),
    st.builds(JsonSchema, st.sampled_from(['{"type": "object"}', "{}"])),
    st.builds(Regex, word),
    st.builds(Grammar, word),
    st.builds(Choice, st.lists(some_text, min_size=1, max_size=5).map(tuple)),
)
samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    top_k=st.none() | st.integers(0, 2**31 - 1),
    min_p=st.none() | st.floats(0, 1),
    repetition_penalty=st.none() | st.floats(0, 2, exclude_min=True),
    presence_penalty=st.none() | st.floats(-2, 2),
    frequency_penalty=st.none() | st.floats(-2, 2),
    seed=st.none() | st.integers(0, 2**63 - 1),
    max_tokens=st.none() | st.integers(100, 2**31 - 1),
    min_tokens=st.none() | st.integers(0, 100),
    stop=st.lists(some_text, max_size=16).map(tuple),
    stop_token_ids=ids,
    ignore_eos=st.booleans(),
    n=st.integers(1, 8),
    logprobs=st.none() | st.integers(0, 20),
    logit_bias=st.dictionaries(st.integers(0, 2**32 - 1), st.floats(-100, 100), max_size=4).map(
        lambda biases: tuple(sorted(biases.items()))
    ),
    structure=structures,
)
refs = st.builds(
    AdapterRef,
    st.just(AdapterName("acme", "support")),
    st.sampled_from([None, Alias("prod"), VersionNumber(7)]),
)
requests = st.builds(GenerateRequest, prompts, st.none() | refs, samplings, texts, st.integers(-100, 100))
resolved = st.builds(Resolved, st.builds(Base, texts, texts, texts), texts, texts, texts, texts)
usages = st.builds(Usage, counts, counts, counts, times, times, times)
reasons = st.sampled_from(FinishReason)
likeliest = st.lists(st.builds(TokenLogprob, counts, texts, logs), max_size=3).map(tuple)
logprobs = st.lists(st.builds(TokenLogprob, counts, texts, logs, likeliest), max_size=3).map(tuple)
indices = st.integers(0, 7)
pieces = st.tuples(
    st.none() | resolved,
    st.none() | st.builds(Delta, texts, ids, indices, logprobs),
    st.none() | st.builds(Finished, reasons, usages, indices),
).map(lambda piece: tuple(event for event in piece if event is not None))
answers = st.lists(st.builds(Answer, texts, ids, reasons, logprobs), min_size=1, max_size=3).map(tuple)
completions = st.builds(Completion, resolved, answers, usages)
summaries = st.builds(
    AdapterSummary, texts, texts, st.dictionaries(texts, texts, max_size=4), st.lists(texts).map(tuple)
)


@given(requests)
def test_a_request_survives_the_wire(request: GenerateRequest) -> None:
    sent = messages.from_request(request).SerializeToString()
    assert messages.to_request(pb.Generation.FromString(sent)) == request


@given(pieces)
def test_a_piece_of_a_stream_survives_the_wire(events: tuple[Event, ...]) -> None:
    sent = messages.from_events(events).SerializeToString()
    assert tuple(messages.to_events(pb.StreamGenerateResponse.FromString(sent))) == events


@given(completions)
def test_a_whole_answer_survives_the_wire(completion: Completion) -> None:
    sent = messages.from_completion(completion).SerializeToString()
    assert messages.to_completion(pb.GenerateResponse.FromString(sent)) == completion


@given(summaries)
def test_a_listed_adapter_survives_the_wire(summary: AdapterSummary) -> None:
    sent = messages.from_summary(summary).SerializeToString()
    assert messages.to_summary(pb.Adapter.FromString(sent)) == summary


@given(st.binary(max_size=400))
def test_any_message_is_a_request_or_one_of_our_errors(data: bytes) -> None:
    message = pb.Generation()
    try:
        message.ParseFromString(data)
    except Exception:
        return  # Not a message: gRPC answers that before we see it.
    with contextlib.suppress(InvalidRequest, InvalidReference):
        messages.to_request(message)


def test_a_field_that_is_not_set_is_none_and_a_zero_is_a_zero() -> None:
    message = pb.Generation(text="hi", sampling=pb.Sampling(temperature=0, top_k=0))
    sampling = messages.to_request(message).sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0, 0, None)


def test_a_request_without_a_prompt_is_told_the_three_forms() -> None:
    with pytest.raises(EmptyPrompt, match="chat, text or tokens"):
        messages.to_request(pb.Generation())


def test_a_token_id_that_no_message_holds_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="token ids are 0 to"):
        messages.from_request(GenerateRequest(Tokens((-1,))))


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Unicode"):
        messages.from_request(GenerateRequest(Text("half a pair: \ud800")))


def test_an_event_of_a_newer_server_is_skipped() -> None:
    assert not list(messages.to_events(pb.StreamGenerateResponse()))


def test_a_finish_reason_of_a_newer_server_reads_as_aborted() -> None:
    message = pb.StreamGenerateResponse(finished=pb.Finished())
    message.finished.reason = 99  # type: ignore[assignment]
    (event,) = messages.to_events(message)
    assert isinstance(event, Finished)
    assert event.reason is FinishReason.ABORTED


MANY = {
    "a chat": pb.Generation(
        chat=pb.Chat(messages=[pb.Message(role="user")] * 500_000 + [pb.Message(role="user", content="x")])
    ),
    "tokens": pb.Generation(tokens=pb.Tokens(ids=[1] * 4_000_000)),
    "stop": pb.Generation(text="x", sampling=pb.Sampling(stop=["a"] * 1_000_000)),
    "stop_token_ids": pb.Generation(text="x", sampling=pb.Sampling(stop_token_ids=[1] * 4_000_000)),
    "logit_bias": pb.Generation(
        text="x", sampling=pb.Sampling(logit_bias=dict.fromkeys(range(300_000), 1.0))
    ),
    "choice": pb.Generation(text="x", sampling=pb.Sampling(choice=pb.Choice(options=["a"] * 1_000_000))),
}


@pytest.mark.parametrize("what", MANY)
def test_what_is_far_too_much_is_refused_before_any_time_is_spent_on_it(what: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest, match=f"{what} takes at most"):
        messages.to_request(MANY[what])
    assert time.process_time() - began < 0.02
