"""What an inspection has to say: findings, and their sum."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hotshoe.adapter.errors import Unservable

_TOLD = 5
_LONGEST_SUBJECT = 160


class Severity(enum.StrEnum):
    """ERROR: must not be published or loaded. WARNING: works, but look at it."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. code: stable, for machines. subject: the tensor or file. next_step: what to do."""

    severity: Severity
    code: str
    subject: str
    message: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}; {self.next_step} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Inspection:
    """All findings about a folder, and the facts that a manifest records.

    rank: the largest rank of any module. alpha: the config's `lora_alpha`. targets: the last name of each
    module touched, sorted. numbers: in all weights. Where the errors left no fact to take, they are 0, 0.0
    and ().
    """

    findings: tuple[Finding, ...] = ()
    rank: int = 0
    alpha: float = 0.0
    targets: tuple[str, ...] = ()
    numbers: int = 0

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.WARNING)

    def raise_for_errors(self) -> None:
        """Raise Unservable with the first few errors and the number of the rest, if there is any."""
        if errors := self.errors:
            raise unservable(errors)


class Malformed(Exception):
    """A file that cannot be read any further; carries the finding that says why.

    It stays inside `hotshoe.registry`: callers meet the finding, or the Unservable made of it.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def error(code: str, subject: str, message: str, next_step: str) -> Finding:
    return Finding(Severity.ERROR, code, shown(subject), message, next_step)


def warning(code: str, subject: str, message: str, next_step: str) -> Finding:
    return Finding(Severity.WARNING, code, shown(subject), message, next_step)


def unservable(errors: tuple[Finding, ...]) -> Unservable:
    """Make one exception of one or more errors."""
    told = "\n".join(f"- {finding}" for finding in errors[:_TOLD])
    rest = f"\n- and {len(errors) - _TOLD} more" if len(errors) > _TOLD else ""
    count = "one error" if len(errors) == 1 else f"{len(errors)} errors"
    return Unservable(
        f"the adapter has {count}:\n{told}{rest}",
        details={"code": errors[0].code, "subject": errors[0].subject, "errors": str(len(errors))},
    )


def shown(text: str) -> str:
    """A stranger's text, printable and short."""
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: _LONGEST_SUBJECT + 1])
    return text if len(text) <= _LONGEST_SUBJECT else text[: _LONGEST_SUBJECT - 3] + "..."
