"""Measuring a model on held-out rows: real greedy answers, and the loss of the expected ones."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotshoe.adapter.manifest import Base
from hotshoe.train.data import Document, Example, Preference, Question, Verdict
from hotshoe.train.exam_section import EvaluationConfig
from hotshoe.train.machine import Machine
from hotshoe.train.memory import memory_explained
from hotshoe.train.model import Model
from hotshoe.train.prepare import Part
from hotshoe.train.progress import Progress
from hotshoe.train.scores import Score, mean, scores_for
from hotshoe.train.tokens import NO_LOSS, Encoded, Tokenizer, answered, pieces, prompt_ids

PIECE_TOKENS = 1024
"""A document's loss is taken on pieces of this length."""

BATCH_TOKENS = 4096
"""The most tokens of one forward pass for a loss."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one row; `ended` is False where it ran into the token limit."""

    text: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """A model's answers to an exam's questions in their order, its mean loss a token on the expected ones,
    and the share of pairs of which it finds the better answer likelier (None without pairs)."""

    answers: tuple[Answer, ...]
    loss: float
    preferred: float | None = None


@dataclass(frozen=True, slots=True)
class Exam:
    """Held-out rows and how they are asked; base, parent and adapter sit the same one.

    examples: questions to be answered. rows: what the loss is taken on. scores: the metrics by name.
    pairs: a better and a worse answer to the same question, encoded.
    """

    examples: tuple[Example, ...]
    rows: tuple[Encoded, ...]
    evaluation: EvaluationConfig
    scores: Mapping[str, Score]
    pairs: tuple[tuple[Encoded, Encoded], ...] = ()

    @classmethod
    def of(cls, heldout: Part[Any], evaluation: EvaluationConfig) -> Exam:
        """An exam of the first held-out rows, of whatever kind: every good answer is one to be given."""
        examples: list[Example] = []
        rows: list[Encoded] = []
        pairs: list[tuple[Encoded, Encoded]] = []
        for row, encoded in zip(heldout.rows[: evaluation.max_rows], heldout.encoded, strict=False):
            match row:
                case Example():
                    examples.append(row)
                case Preference():
                    examples.append(answered(row, row.chosen))
                    pairs.append((encoded[0], encoded[1]))
                case Question():
                    examples.append(answered(row, row.answer or "-"))
                case Verdict(good=True):
                    examples.append(answered(row, row.answer))
                case Verdict():
                    continue
                case Document():
                    rows.extend(pieces(encoded[0], PIECE_TOKENS))
                    continue
            rows.append(encoded[0])
        return cls(tuple(examples), tuple(rows), evaluation, scores_for(evaluation), tuple(pairs))

    def sit(self, model: Model, tokenizer: Tokenizer, progress: Progress) -> Heard:
        """Let a model answer every question, and take its loss on the expected answers."""
        return self.hear(model, tokenizer, self.answer(model, tokenizer, progress))

    def answer(self, model: Model, tokenizer: Tokenizer, progress: Progress) -> tuple[Answer, ...]:
        """A model's greedy answers to every question."""
        model.eval()
        prompts = self._prompts(tokenizer)
        # Rows of like length share a batch, so that little of it is padding.
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        answers: dict[int, Answer] = {}
        for batch in _batches(order, self.evaluation.batch_rows):
            asked = [prompts[index] for index in batch]
            with memory_explained(f"with {len(asked)} held-out rows at once: lower evaluation.batch_rows"):
                told = _generate(model, tokenizer, asked, self.evaluation.max_new_tokens)
            answers.update(zip(batch, told, strict=True))
            progress.step(len(answers), len(prompts), None)
        return tuple(answers[index] for index in range(len(prompts)))

    def hear(self, model: Model, tokenizer: Tokenizer, answers: tuple[Answer, ...]) -> Heard:
        """A model's losses, beside what it answered."""
        model.eval()
        pad, size = tokenizer.pad_token_id, self.evaluation.batch_rows
        return Heard(
            answers=answers,
            loss=mean_loss(model, self.rows, pad=pad, batch_rows=size),
            preferred=_preferred(model, self.pairs, pad=pad) if self.pairs else None,
        )

    def marks(self, heard: Heard) -> dict[str, float]:
        """The figures: every metric's mean, `ended` (share that stopped by itself), `preferred`, loss,
        perplexity; what there are no rows for is left out."""
        figures: dict[str, float] = {}
        if self.examples:
            figures |= {name: self.mean_score(heard, score) for name, score in self.scores.items()}
            figures["ended"] = sum(answer.ended for answer in heard.answers) / len(heard.answers)
        if heard.preferred is not None:
            figures["preferred"] = heard.preferred
        return {
            **figures,
            "loss": heard.loss,
            # exp overflows past 709; a loss that high is noise anyway.
            "perplexity": math.exp(min(heard.loss, 700.0)),
        }

    def mean_score(self, heard: Heard, score: Score) -> float:
        """What the answers are worth on average."""
        both = zip(self.examples, heard.answers, strict=True)
        return mean(score, [(row.prompt[-1].content, told.text, row.answer) for row, told in both])

    def key(self, base: Base, machine: Machine, quantize: str | None, tokenizer: Tokenizer) -> str:
        """A name for everything that the base's answers depend on, 64 hex digits."""
        limit, prompts = self.evaluation.max_new_tokens, self._prompts(tokenizer)
        asked = [base.digest, quantize or machine.dtype, limit, prompts]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def _prompts(self, tokenizer: Tokenizer) -> list[list[int]]:
        return [prompt_ids(example, tokenizer) for example in self.examples]


def mean_loss(model: Model, rows: Sequence[Encoded], *, pad: int, batch_rows: int) -> float:
    """Negative log-likelihood a learned token (nats), over all rows together."""
    import torch

    total, count = 0.0, 0
    # Logits over the whole vocabulary are what costs memory here: few long rows at once.
    longest = max((len(row.ids) for row in rows), default=1)
    size = max(min(batch_rows, BATCH_TOKENS // longest), 1)
    for batch in _batches(sorted(rows, key=lambda row: len(row.ids)), size):
        width = max(len(row.ids) for row in batch)
        ids = torch.tensor([[*row.ids, *[pad] * (width - len(row.ids))] for row in batch])
        labels = torch.tensor([[*row.labels, *[NO_LOSS] * (width - len(row.ids))] for row in batch])[:, 1:]
        learned = labels != NO_LOSS
        with torch.inference_mode():
            # Padding stands on the right, where a causal model cannot see it: no mask is needed.
            logits = model(input_ids=ids.to(model.device)).logits[:, :-1][learned.to(model.device)]
            wanted = labels[learned].to(model.device)
            total += float(torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum"))
        count += len(wanted)
    return total / max(count, 1)


def _preferred(model: Model, pairs: Sequence[tuple[Encoded, Encoded]], *, pad: int) -> float:
    """Share of pairs whose better answer has the lower loss a token."""

    def loss(row: Encoded) -> float:
        return mean_loss(model, [row], pad=pad, batch_rows=1)

    return sum(loss(better) < loss(worse) for better, worse in pairs) / len(pairs)


def _generate(
    model: Model, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], limit: int
) -> list[Answer]:
    import torch

    width = max(map(len, prompts))
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = torch.tensor([[*[pad] * (width - len(prompt)), *prompt] for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            max_new_tokens=limit,
            pad_token_id=pad,
            eos_token_id=eos,
        )
    return [_answer(row[width:].tolist(), tokenizer, eos) for row in output]


def _answer(ids: list[int], tokenizer: Tokenizer, eos: int) -> Answer:
    ended = eos in ids
    said = ids[: ids.index(eos)] if ended else ids
    return Answer(tokenizer.decode(said, skip_special_tokens=True), ended)


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
