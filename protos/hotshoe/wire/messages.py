"""Messages to values and back. Nobody else touches a protobuf field."""

from __future__ import annotations

from hotshoe.adapter.errors import EmptyPrompt, InvalidRequest
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterRef
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.wire.values import (
    AdapterSummary,
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
)

_REASON_TO_PB: dict[FinishReason, pb.FinishReason.ValueType] = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.ABORTED: pb.FINISH_REASON_ABORTED,
}
_REASON_FROM_PB = {message: value for value, message in _REASON_TO_PB.items()}


def to_request(message: pb.Generation) -> GenerateRequest:
    """Read a request; raise InvalidRequest, EmptyPrompt or InvalidReference for a wrong one."""
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


def from_event(event: Event) -> pb.StreamGenerateResponse:
    """Write one message of a stream."""
    match event:
        case Resolved():
            return pb.StreamGenerateResponse(resolved=_from_resolved(event))
        case Delta(text, token_ids):
            return pb.StreamGenerateResponse(delta=pb.Delta(text=text, token_ids=token_ids))
        case Finished():
            return pb.StreamGenerateResponse(finished=_from_finished(event))


def to_event(message: pb.StreamGenerateResponse) -> Event | None:
    """Read one message of a stream; None for a kind of event that this client does not know yet."""
    match message.WhichOneof("event"):
        case "resolved":
            return _to_resolved(message.resolved)
        case "delta":
            return Delta(message.delta.text, tuple(message.delta.token_ids))
        case "finished":
            return _to_finished(message.finished)
        case _:
            return None


def from_completion(completion: Completion) -> pb.GenerateResponse:
    """Write a whole answer."""
    return pb.GenerateResponse(
        resolved=_from_resolved(completion.resolved),
        text=completion.text,
        token_ids=completion.token_ids,
        finished=_from_finished(Finished(completion.finish_reason, completion.usage)),
    )


def to_completion(message: pb.GenerateResponse) -> Completion:
    """Read a whole answer."""
    finished = _to_finished(message.finished)
    return Completion(
        resolved=_to_resolved(message.resolved),
        text=message.text,
        token_ids=tuple(message.token_ids),
        finish_reason=finished.reason,
        usage=finished.usage,
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
    )


def _from_sampling(sampling: Sampling) -> pb.Sampling:
    message = pb.Sampling(
        stop=sampling.stop, stop_token_ids=sampling.stop_token_ids, ignore_eos=sampling.ignore_eos
    )
    for name in _OPTIONAL_SAMPLING:
        if (value := getattr(sampling, name)) is not None:
            setattr(message, name, value)
    return message


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
    usage = finished.usage
    return pb.Finished(
        reason=_REASON_TO_PB[finished.reason],
        usage=pb.Usage(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            load_ms=usage.load_ms,
            first_token_ms=usage.first_token_ms,
            queue_ms=usage.queue_ms,
        ),
    )


def _to_finished(message: pb.Finished) -> Finished:
    usage = message.usage
    return Finished(
        _REASON_FROM_PB.get(message.reason, FinishReason.ABORTED),
        Usage(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            load_ms=usage.load_ms,
            first_token_ms=usage.first_token_ms,
            queue_ms=usage.queue_ms,
        ),
    )
