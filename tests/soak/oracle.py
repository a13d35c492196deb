"""What each version must answer: the greedy tokens of transformers and PEFT, worked out before the soak.

Float32 sums differ in their last digits from one engine to the other, so a question counts only where every
voice, at every step, prefers its token by more than CLEAR: then there is one right answer and no excuse.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.tiny import VOCABULARY

BASE = ""
"""The voice of the base alone."""

CLEAR = 1e-4
"""Between the best and the second logit; engines differ by some 1e-6 here."""

LENGTHS = (12, 70, 200)
"""Of prompts in tokens: short, over one KV block, over several, so that the prefix cache has work."""

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Oracle:
    """questions: prompts. answers: voice -> the whole answer to each question, `answer_tokens` long."""

    questions: tuple[Tokens, ...]
    answers: Mapping[str, tuple[Tokens, ...]]

    @property
    def answer_tokens(self) -> int:
        """How long the answers are that are known; a shorter one is the beginning of it."""
        return len(self.answers[BASE][0])

    def is_right(self, voice: str, question: int, tokens: Sequence[int]) -> bool:
        """Whether `tokens` are the voice's answer, or the beginning of it."""
        return self.answers[voice][question][: len(tokens)] == tuple(tokens)


def consult(
    base: Path, voices: Mapping[str, Path], *, candidates: int, answer_tokens: int, seed: int
) -> Oracle:
    """Ask every voice (name -> PEFT folder) and the base; keep the questions that all answer clearly.

    candidates: questions of each length to choose from. Raises RuntimeError if fewer than one of each
    length are clear.
    """
    chance = random.Random(seed)
    batches = [
        [[chance.randrange(3, VOCABULARY) for _ in range(length)] for _ in range(candidates)]
        for length in LENGTHS
    ]
    clear = [[True] * candidates for _ in LENGTHS]
    told: dict[str, list[list[Tokens]]] = {}
    for voice, model in _models(base, voices):
        told[voice] = []
        for batch, is_clear in zip(batches, clear, strict=True):
            answers, margins = _greedy(model, batch, answer_tokens)
            told[voice].append(answers)
            is_clear[:] = [a and b > CLEAR for a, b in zip(is_clear, margins, strict=True)]
    if not all(map(any, clear)):
        raise RuntimeError("no question is answered clearly by every voice: ask more of them")
    kept = [(batch, n) for batch, flags in enumerate(clear) for n, flag in enumerate(flags) if flag]
    return Oracle(
        tuple(tuple(batches[batch][n]) for batch, n in kept),
        {voice: tuple(answers[batch][n] for batch, n in kept) for voice, answers in told.items()},
    )


def _models(base: Path, voices: Mapping[str, Path]) -> Iterator[tuple[str, Any]]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="float32").eval()
    yield BASE, model
    for voice, folder in voices.items():
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=voice)
        else:
            model = PeftModel.from_pretrained(model, folder, adapter_name=voice).eval()
        model.set_adapter(voice)
        yield voice, model


def _greedy(model: Any, prompts: list[list[int]], count: int) -> tuple[list[Tokens], list[float]]:
    """The next `count` tokens of prompts of one length, and by how much the closest choice was made."""
    import torch

    chosen: list[Any] = []
    margins: list[Any] = []
    step, past = torch.tensor(prompts), None
    with torch.inference_mode():
        for _ in range(count):
            output = model(input_ids=step, past_key_values=past, use_cache=True)
            past = output.past_key_values
            best = output.logits[:, -1].topk(2)
            margins.append(best.values[:, 0] - best.values[:, 1])
            step = best.indices[:, :1]
            chosen.append(step)
    tokens = torch.cat(chosen, dim=1).tolist()
    return [tuple(row) for row in tokens], torch.stack(margins, dim=1).amin(dim=1).tolist()
