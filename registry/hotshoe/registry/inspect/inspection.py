"""The whole inspection, in the order in which one check makes the next one safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from hotshoe.registry.inspect.config import (
    MAX_RANK,
    AdapterConfig,
    config_findings,
    matching_steps,
    parse_config,
    read_config,
)
from hotshoe.registry.inspect.factors import Pair, pair_findings, pair_up
from hotshoe.registry.inspect.findings import Finding, Inspection, Malformed, Severity, error, shown, warning
from hotshoe.registry.inspect.folder import CONFIG_FILE, WEIGHTS_FILE, folder_findings
from hotshoe.registry.inspect.header import read_header
from hotshoe.registry.inspect.shapes import SERVED_TARGETS, BaseShapes
from hotshoe.registry.inspect.tokenizer import tokenizer_findings

T = TypeVar("T")

_MAX_MATCHES = 2_000_000
_MAX_STEPS = 100_000_000
"""Of all these matches together, as `matching_steps` counts them: less than a second."""


def inspect(
    folder: Path,
    base_config: Mapping[str, Any] | None,
    *,
    max_rank: int | None = None,
    served: frozenset[str] = SERVED_TARGETS,
    origin: Path | None = None,
) -> Inspection:
    """Judge the adapter in `folder`; whatever its bytes are, the answer is findings, never an exception.

    base_config: the base's `config.json`, parsed; None leaves the shapes unchecked. max_rank: the
    server's limit where it is known. served: the modules that the server wraps. origin: the folder that
    the version's files were copied from, to be judged for what lies beside them.
    """
    # numpy comes with it, for which a listing of the registry should not wait.
    from hotshoe.registry.inspect.values import value_findings

    findings = list(folder_findings(folder))
    if not folder.is_dir():
        return Inspection(tuple(findings))
    if origin is not None:
        findings += folder_findings(origin)
    raw = _attempt(findings, lambda: read_config(folder / CONFIG_FILE))
    header = _attempt(findings, lambda: read_header(folder / WEIGHTS_FILE))
    base = _base_shapes(findings, base_config)
    config = None
    if raw is not None:
        findings += config_findings(raw, max_rank=max_rank)
        config = parse_config(raw)
    pairs: list[Pair] = []
    if header is not None:
        pairs, wrong = pair_up(header.tensors)
        findings += wrong
        config = _affordable(findings, config, pairs)
        findings += pair_findings(pairs, config, base, served)
    if config is not None and pairs and _measurable(findings, pairs):
        findings += value_findings(folder / WEIGHTS_FILE, pairs, config)
    findings += tokenizer_findings(origin or folder, base.vocabulary if base else None)
    return Inspection(
        findings=tuple(_errors_first(findings)),
        rank=max((pair.rank for pair in pairs), default=0),
        alpha=config.alpha if config else 0.0,
        targets=tuple(sorted({pair.target for pair in pairs})),
        numbers=sum(prod(tensor.shape) for tensor in header.tensors) if header else 0,
    )


def _attempt(findings: list[Finding], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Malformed as broken:
        if not any(finding.subject == broken.finding.subject for finding in findings):
            findings.append(broken.finding)
        return None
    except OSError as failure:
        findings.append(error("UNREADABLE", "folder", f"cannot be read ({failure.strerror})", "try again"))
        return None


def _base_shapes(findings: list[Finding], config: Mapping[str, Any] | None) -> BaseShapes | None:
    if config is None:
        return None
    try:
        shapes = BaseShapes.of(config)
    except ValueError as failure:
        findings.append(
            warning("BASE_UNREADABLE", "config.json", f"of the base: {failure}", "shapes go unchecked")
        )
        return None
    if shapes is None:
        what = f"of the base is of a family unknown here, {shown(repr(config.get('model_type')))}"
        findings.append(
            warning("SHAPES_UNCHECKED", "config.json", what, "compare served answers with PEFT's")
        )
    return shapes


def _affordable(
    findings: list[Finding], config: AdapterConfig | None, pairs: list[Pair]
) -> AdapterConfig | None:
    """The config, or None where matching its patterns would take minutes, here and in vLLM."""
    if config is None or (
        (len(config.rank_pattern) + len(config.alpha_pattern)) * len(pairs) <= _MAX_MATCHES
        and matching_steps(config, [pair.module for pair in pairs]) <= _MAX_STEPS
    ):
        return config
    findings.append(
        error("BAD_PATTERN", CONFIG_FILE, "has more patterns than anyone needs", "use fewer patterns")
    )
    return None


def _measurable(findings: list[Finding], pairs: list[Pair]) -> bool:
    """Whether the numbers can be read at a bounded cost: it grows with the square of the rank.

    What is over has an error already, of the config's rank or of not being that.
    """
    return max(pair.rank for pair in pairs) <= MAX_RANK and not any(
        finding.code == "BAD_SHAPE" for finding in findings
    )


def _errors_first(findings: list[Finding]) -> Iterator[Finding]:
    yield from (finding for finding in findings if finding.severity is Severity.ERROR)
    yield from (finding for finding in findings if finding.severity is Severity.WARNING)
