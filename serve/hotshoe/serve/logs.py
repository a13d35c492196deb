"""The server's log: lines for people or JSON for machines, each with the request it belongs to.

No line holds a prompt, an answer or a key; prompts only where `log_prompts` asks for them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.serve.call import Call, Observer
from hotshoe.wire.values import Chat, Prompt, Text

calls_log = logging.getLogger("hotshoe.calls")

current_request: ContextVar[str] = ContextVar("current_request", default="")
"""The name of the request that this task works for."""

LEVELS = ("debug", "info", "warning", "error")
FIELDS = "fields"
"""The attribute of a log record with more for the line, a mapping."""


class CallLog(Observer):
    """Writes a line for every request that ends, at level info."""

    def __init__(self, *, with_prompts: bool = False) -> None:
        self._with_prompts = with_prompts

    def on_end(self, call: Call) -> None:
        if not calls_log.isEnabledFor(logging.INFO):
            return
        fields: dict[str, Any] = {
            "request_id": call.id,
            "caller_request_id": call.origin.request_id,
            "tenant": call.origin.tenant,
            "adapter": call.resolved.adapter if call.resolved else "",
            "version": call.resolved.version if call.resolved else "",
            "outcome": call.outcome,
            "finish_reason": call.finish_reason.value if call.finish_reason else "",
            "prompt_tokens": call.prompt_tokens,
            "cached_tokens": call.cached_tokens,
            "output_tokens": call.output_tokens,
            "queue_ms": round(call.queue_ms, 1),
            "load_ms": round(call.load_ms, 1),
            "first_token_ms": round(call.first_token_ms, 1),
            "ms": round(call.seconds * 1000, 1),
        }
        if self._with_prompts and call.prompt is not None:
            fields["prompt"] = _text(call.prompt)
        calls_log.info("%s %s", call.outcome, call.resolved or "nobody", extra={FIELDS: fields})


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, logger, message, request_id, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := current_request.get():
            line["request_id"] = request
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, where from, what; then the record's own fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, FIELDS, {})
        said = " ".join(f"{key}={value}" for key, value in fields.items() if value not in ("", 0))
        return f"{super().format(record)} {said}".rstrip()


@contextlib.contextmanager
def logging_to_stderr(*, as_json: bool, level: str) -> Iterator[None]:
    """Write the whole process's log to standard error until the block ends. level: one of LEVELS."""
    if level not in LEVELS:
        raise InvalidConfig(f"log level {level!r} is none: choose from {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def _text(prompt: Prompt) -> str:
    match prompt:
        case Text(text):
            return text
        case Chat(messages):
            return "\n".join(f"{message.role}: {message.content}" for message in messages)
        case _:
            return " ".join(map(str, prompt.ids))
