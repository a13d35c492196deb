"""How far an adapter moves answers that it was not asked to move.

Measured on a dozen everyday questions, as the base would be asked them: the divergence of the
adapter's next-token distribution from the base's, and the loss of both on the same good answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from hotshoe.train.data import Example, Turn
from hotshoe.train.model import Model
from hotshoe.train.tokens import NO_LOSS, Encoded, Tokenizer, encode_example

GENERAL = (
    (
        "Why is the sky blue?",
        "Air scatters the blue part of sunlight more than the red part, so blue light reaches "
        "our eyes from every direction.",
    ),
    (
        "Name three fruits that grow on trees.",
        "Apples, pears and cherries grow on trees.",
    ),
    (
        "What is 12 times 8?",
        "12 times 8 is 96.",
    ),
    (
        "Write one sentence about the sea in winter.",
        "In winter the sea lies grey and heavy under low clouds, and few ships leave the harbour.",
    ),
    (
        "How do I boil an egg?",
        "Put the egg in boiling water for six to ten minutes, then cool it under cold water.",
    ),
    (
        "Translate 'good morning' into French.",
        "Good morning is 'bonjour' in French.",
    ),
    (
        "Who wrote Hamlet?",
        "Hamlet was written by William Shakespeare.",
    ),
    (
        "Give me a reason to take a walk every day.",
        "A daily walk keeps the heart healthy and clears the mind.",
    ),
    (
        "What does a librarian do?",
        "A librarian collects and orders books and helps readers to find what they need.",
    ),
    (
        "Write a Python function that adds two numbers.",
        "def add(a, b):\n    return a + b",
    ),
    (
        "Is it safe to swim after a thunderstorm?",
        "Wait until the storm has passed for at least thirty minutes before you swim, because "
        "lightning can strike water.",
    ),
    (
        "Summarize: The meeting was moved from Monday to Friday because the room was being painted.",
        "The meeting is now on Friday, since the room was being painted.",
    ),
)
"""Questions with answers of the kind that any tuned base gives; written for this purpose."""


@dataclass(frozen=True, slots=True)
class Drift:
    """divergence: Kullback-Leibler from base to adapter. Losses: of the good answers. All nats a token."""

    divergence: float
    base_loss: float
    adapter_loss: float


def measure_drift(model: Model, tokenizer: Tokenizer) -> Drift:
    """Compare a peft model with the base below it on the general questions."""
    rows = [
        encode_example(example, tokenizer) for example in _examples(templated=bool(tokenizer.chat_template))
    ]
    divergence = base_loss = adapter_loss = 0.0
    model.eval()
    for row in rows:
        one = _compare(model, row)
        divergence += one.divergence
        base_loss += one.base_loss
        adapter_loss += one.adapter_loss
    tokens = sum(row.learned for row in rows)
    return Drift(divergence / tokens, base_loss / tokens, adapter_loss / tokens)


def _compare(model: Model, row: Encoded) -> Drift:
    """Sums over one row's answer tokens."""
    import torch

    ids = torch.tensor([row.ids], device=model.device)
    labels = torch.tensor(row.labels[1:], device=model.device)
    answer = labels != NO_LOSS
    with torch.inference_mode():
        with model.disable_adapter():
            base = model(input_ids=ids).logits[0, :-1][answer].float().log_softmax(-1)
        adapted = model(input_ids=ids).logits[0, :-1][answer].float().log_softmax(-1)
        nll = torch.nn.functional.nll_loss
        return Drift(
            float((base.exp() * (base - adapted)).sum()),
            float(nll(base, labels[answer], reduction="sum")),
            float(nll(adapted, labels[answer], reduction="sum")),
        )


def _examples(*, templated: bool) -> list[Example]:
    return [
        Example(f"general:{number}", (Turn("user", question), Turn("assistant", answer)), templated)
        for number, (question, answer) in enumerate(GENERAL, start=1)
    ]
