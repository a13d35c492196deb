"""Measuring a model on held-out rows: real greedy answers, and the loss of the expected ones."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hotshoe.adapter.manifest import Base
from hotshoe.train.config import EvaluationConfig
from hotshoe.train.data import Example
from hotshoe.train.machine import Machine
from hotshoe.train.metrics import mean_scores
from hotshoe.train.model import Model
from hotshoe.train.prepare import Part
from hotshoe.train.progress import Progress
from hotshoe.train.tokens import NO_LOSS, Encoded, Tokenizer, prompt_ids


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one row; `ended` is False where it ran into the token limit."""

    text: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """A model's answers to an exam's rows in their order, and its mean loss a token on the expected ones."""

    answers: tuple[Answer, ...]
    loss: float

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Heard:
        raw = json.loads(text)
        return cls(tuple(Answer(**answer) for answer in raw["answers"]), float(raw["loss"]))


@dataclass(frozen=True, slots=True)
class Exam:
    """Held-out rows and how they are asked; base, parent and adapter sit the same one."""

    examples: tuple[Example, ...]
    rows: tuple[Encoded, ...]
    evaluation: EvaluationConfig

    @classmethod
    def of(cls, heldout: Part[Example], evaluation: EvaluationConfig) -> Exam:
        count = evaluation.max_rows
        return cls(heldout.rows[:count], tuple(row for (row,) in heldout.encoded[:count]), evaluation)

    def sit(self, model: Model, tokenizer: Tokenizer, progress: Progress) -> Heard:
        """Let a model answer every row greedily, and take its loss on the expected answers."""
        model.eval()
        prompts = [prompt_ids(example, tokenizer) for example in self.examples]
        # Rows of like length share a batch, so that little of it is padding.
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        answers: dict[int, Answer] = {}
        for batch in _batches(order, self.evaluation.batch_rows):
            asked = [prompts[index] for index in batch]
            answers.update(
                zip(batch, _generate(model, tokenizer, asked, self.evaluation.max_new_tokens), strict=True)
            )
            progress.step(len(answers), len(prompts), None)
        loss = mean_loss(model, self.rows, pad=tokenizer.pad_token_id, batch_rows=self.evaluation.batch_rows)
        return Heard(tuple(answers[index] for index in range(len(prompts))), loss)

    def marks(self, heard: Heard) -> dict[str, float]:
        """The figures: every metric's mean, `ended` (share that stopped by itself), loss, perplexity."""
        pairs = [(answer.text, row.answer) for answer, row in zip(heard.answers, self.examples, strict=True)]
        return {
            **mean_scores(self.evaluation.metrics, pairs),
            "ended": sum(answer.ended for answer in heard.answers) / max(len(heard.answers), 1),
            "loss": heard.loss,
            # exp overflows past 709; a loss that high is noise anyway.
            "perplexity": math.exp(min(heard.loss, 700.0)),
        }

    def key(self, base: Base, machine: Machine) -> str:
        """A name for everything that the base's answers depend on, 64 hex digits."""
        rows = [[row.ids, row.labels] for row in self.rows]
        asked = [base.digest, machine.dtype, self.evaluation.max_new_tokens, rows]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def mean_loss(model: Model, rows: Sequence[Encoded], *, pad: int, batch_rows: int) -> float:
    """Negative log-likelihood a learned token (nats), over all rows together."""
    import torch

    total, count = 0.0, 0
    for batch in _batches(sorted(rows, key=lambda row: len(row.ids)), batch_rows):
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
