"""Messages to values and back. Nobody else touches a protobuf field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hotshoe.adapter.errors import EmptyPrompt, InvalidRequest
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterRef
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.wire.counts import check_counts
from hotshoe.wire.structure import Choice, Grammar, JsonSchema, Regex, Structure
from hotshoe.wire.values import (
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
    Prompt,
    Resolved,
    Sampling,
    Text,
    TokenLogprob,
    Tokens,
    Usage,
)

_OPTIONAL_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "min_tokens",
    "logprobs",
)

_REASON_TO_PB: dict[FinishReason, pb.FinishReason.ValueType] = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.ABORTED: pb.FINISH_REASON_ABORTED,
}
_REASON_FROM_PB = {message: value for value, message in _REASON_TO_PB.items()}


def to_request(message: pb.Generation) -> GenerateRequest:
    """Read a request; raise InvalidRequest, EmptyPrompt or InvalidReference for a wrong one."""
    check_counts(message)
    return GenerateRequest(
        prompt=_to_prompt(message),
        adapter=AdapterRef.parse(message.adapter) if message.adapter else None,
        sampling=_to_sampling(message.sampling),
        session=message.session,
        priority=message.priority,
    )


def from_request(request: GenerateRequest) -> pb.Generation:
    """Write a request; raise InvalidRequest for one that no message can hold."""
    try:
        message = pb.Generation(
            adapter=str(request.adapter) if request.adapter else "",
            sampling=_from_sampling(request.sampling),
            session=request.session,
            priority=request.priority,
        )
        match request.prompt:
            case Chat(messages):
                message.chat.messages.extend(pb.Message(role=m.role, content=m.content) for m in messages)
            case Text(text):
                message.text = text
            case Tokens(ids):
                message.tokens.ids.extend(ids)
    except ValueError as error:
        raise InvalidRequest(
            f"the request cannot be sent: {error}; token ids are 0 to 2^32-1, text is Unicode"
        ) from error
    return message


def from_events(events: Iterable[Event]) -> pb.StreamGenerateResponse:
    """Write one message of a stream: at most one event of each kind."""
    message = pb.StreamGenerateResponse()
    for event in events:
        match event:
            case Resolved():
                message.resolved.CopyFrom(_from_resolved(event))
            case Delta(text, token_ids, index, logprobs):
                message.delta.text, message.delta.index = text, index
                message.delta.token_ids.extend(token_ids)
                if logprobs:
                    message.delta.logprobs.extend(map(_from_logprob, logprobs))
            case Finished():
                message.finished.CopyFrom(_from_finished(event))
    return message


def to_events(message: pb.StreamGenerateResponse) -> Iterator[Event]:
    """Read one message of a stream; nothing from one whose fields this client does not know yet."""
    if message.HasField("resolved"):
        yield _to_resolved(message.resolved)
    if message.HasField("delta"):
        delta = message.delta
        logprobs = _to_logprobs(delta.logprobs) if delta.logprobs else ()
        yield Delta(delta.text, tuple(delta.token_ids), delta.index, logprobs)
    if message.HasField("finished"):
        yield _to_finished(message.finished)


def from_completion(completion: Completion) -> pb.GenerateResponse:
    """Write whole answers."""
    return pb.GenerateResponse(
        resolved=_from_resolved(completion.resolved),
        answers=[
            pb.Answer(
                text=answer.text,
                token_ids=answer.token_ids,
                finish_reason=_REASON_TO_PB[answer.finish_reason],
                logprobs=map(_from_logprob, answer.logprobs),
            )
            for answer in completion.answers
        ],
        usage=_from_usage(completion.usage),
    )


def to_completion(message: pb.GenerateResponse) -> Completion:
    """Read whole answers."""
    return Completion(
        resolved=_to_resolved(message.resolved),
        answers=tuple(
            Answer(
                answer.text,
                tuple(answer.token_ids),
                _to_reason(answer.finish_reason),
                _to_logprobs(answer.logprobs),
            )
            for answer in message.answers
        ),
        usage=_to_usage(message.usage),
    )


def from_summary(summary: AdapterSummary) -> pb.Adapter:
    """Write an adapter of a listing."""
    return pb.Adapter(
        name=summary.adapter,
        latest=summary.latest,
        aliases=summary.aliases,
        resident=summary.resident,
    )


def to_summary(message: pb.Adapter) -> AdapterSummary:
    """Read an adapter of a listing."""
    return AdapterSummary(message.name, message.latest, dict(message.aliases), tuple(message.resident))


def _to_prompt(message: pb.Generation) -> Prompt:
    match message.WhichOneof("prompt"):
        case "chat":
            return Chat(tuple(Message(m.role, m.content) for m in message.chat.messages))
        case "text":
            return Text(message.text)
        case "tokens":
            return Tokens(tuple(message.tokens.ids))
        case _:
            raise EmptyPrompt("the request has no prompt: set chat, text or tokens")


def _to_sampling(message: pb.Sampling) -> Sampling:
    chosen = {name: getattr(message, name) for name in _OPTIONAL_SAMPLING if message.HasField(name)}  # type: ignore[arg-type]
    return Sampling(
        **chosen,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        ignore_eos=message.ignore_eos,
        n=message.n or 1,
        logit_bias=tuple(sorted(message.logit_bias.items())),
        structure=_to_structure(message),
    )


def _from_sampling(sampling: Sampling) -> pb.Sampling:
    message = pb.Sampling(
        stop=sampling.stop,
        stop_token_ids=sampling.stop_token_ids,
        ignore_eos=sampling.ignore_eos,
        n=sampling.n,
        logit_bias=dict(sampling.logit_bias),
    )
    for name in _OPTIONAL_SAMPLING:
        if (value := getattr(sampling, name)) is not None:
            setattr(message, name, value)
    match sampling.structure:
        case JsonSchema(schema):
            message.json_schema = schema
        case Regex(pattern):
            message.regex = pattern
        case Grammar(gbnf):
            message.grammar = gbnf
        case Choice(options):
            message.choice.options.extend(options)
    return message


def _to_structure(message: pb.Sampling) -> Structure | None:
    match message.WhichOneof("structure"):
        case "json_schema":
            return JsonSchema(message.json_schema)
        case "regex":
            return Regex(message.regex)
        case "grammar":
            return Grammar(message.grammar)
        case "choice":
            return Choice(tuple(message.choice.options))
        case _:
            return None


def _from_resolved(resolved: Resolved) -> pb.Resolved:
    base = resolved.base
    return pb.Resolved(
        base=pb.Base(repo=base.repo, revision=base.revision, digest=base.digest),
        adapter=resolved.adapter,
        version=resolved.version,
        commit=resolved.commit,
        manifest_sha256=resolved.manifest_sha256,
    )


def _to_resolved(message: pb.Resolved) -> Resolved:
    return Resolved(
        base=Base(message.base.repo, message.base.revision, message.base.digest),
        adapter=message.adapter,
        version=message.version,
        commit=message.commit,
        manifest_sha256=message.manifest_sha256,
    )


def _from_finished(finished: Finished) -> pb.Finished:
    return pb.Finished(
        reason=_REASON_TO_PB[finished.reason], usage=_from_usage(finished.usage), index=finished.index
    )


def _to_finished(message: pb.Finished) -> Finished:
    return Finished(_to_reason(message.reason), _to_usage(message.usage), message.index)


def _to_reason(message: pb.FinishReason.ValueType) -> FinishReason:
    return _REASON_FROM_PB.get(message, FinishReason.ABORTED)


def _from_usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        load_ms=usage.load_ms,
        first_token_ms=usage.first_token_ms,
        queue_ms=usage.queue_ms,
    )


def _to_usage(message: pb.Usage) -> Usage:
    return Usage(
        prompt_tokens=message.prompt_tokens,
        cached_tokens=message.cached_tokens,
        output_tokens=message.output_tokens,
        load_ms=message.load_ms,
        first_token_ms=message.first_token_ms,
        queue_ms=message.queue_ms,
    )


def _from_logprob(value: TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(
        token_id=value.token_id,
        text=value.text,
        logprob=value.logprob,
        top=map(_from_logprob, value.top),
    )


def _to_logprobs(messages: Iterable[pb.TokenLogprob]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(each.token_id, each.text, each.logprob, _to_logprobs(each.top)) for each in messages
    )
