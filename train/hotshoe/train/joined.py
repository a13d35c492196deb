"""Rows end to end in one sequence, each seeing only itself: nothing is computed for padding.

And logits only where something is learned: on a vocabulary of fifty thousand they cost as much as
several layers. A step takes a quarter less time than with trl's own loss (SmolLM2, short rows on one core);
the loss is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hotshoe.train.model import Model
from hotshoe.train.processes import processes
from hotshoe.train.tokens import NO_LOSS

AT_ONCE = 512
"""Tokens that go through a CPU together: of 128 to 1,024 the fastest on SmolLM2's layers. Four rows of 1,024
tokens take 2.4 times as long when they are joined as a whole."""


def join(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Tensors of shape [1, tokens of all rows]. Rows have input_ids and labels, and may have position_ids.

    Without an attention mask transformers takes positions that begin again as boundaries, and lets no
    token look across one (masking_utils.find_packed_sequence_indices).
    """
    import torch

    def joined(key: str) -> Any:
        return torch.tensor([[number for row in batch for number in row[key]]])

    positions = [p for row in batch for p in row.get("position_ids", range(len(row["input_ids"])))]
    # Nothing stands before a row's first token, so nobody can be asked to foresee it.
    labels = [label for row in batch for label in (NO_LOSS, *row["labels"][1:])]
    return {
        "input_ids": joined("input_ids"),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([labels]),
    }


def joined_loss(model: Model, inputs: dict[str, Any], total: Any, *, at_once: int | None = None) -> Any:
    """Summed cross-entropy of a joined batch's learned tokens, over `total` tokens (None: their count).

    at_once: no more tokens than this go through the model together, unless one row alone has more. Rows that
    do not see each other still pay for the mask that says so, with the square of their joined length.
    """
    parts = list(_parts(inputs, at_once))
    learned = sum(int((part["labels"] != NO_LOSS).sum()) for part in parts)
    # What nothing is learned from need not be read, unless there is nothing else.
    read = [part for part in parts if (part["labels"] != NO_LOSS).any()] or parts
    return sum(_summed_loss(model, part) for part in read) / (max(learned, 1) if total is None else total)


def _parts(inputs: dict[str, Any], at_once: int | None) -> Iterator[dict[str, Any]]:
    """The joined sequence in pieces of whole rows; a row begins where positions begin again."""
    starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], inputs["input_ids"].shape[1]]
    begin = 0
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or (at_once is not None and following - begin > at_once):
            yield {key: inputs[key][:, begin:end] for key in ("input_ids", "position_ids", "labels")}
            begin = end


def _summed_loss(model: Model, inputs: dict[str, Any]) -> Any:
    import torch

    labels = inputs["labels"][0, 1:]
    learned = (labels != NO_LOSS).nonzero().flatten()
    logits = model(
        input_ids=inputs["input_ids"],
        position_ids=inputs["position_ids"],
        use_cache=False,
        logits_to_keep=learned,
    ).logits[0]
    return torch.nn.functional.cross_entropy(logits.float(), labels[learned], reduction="sum")


def keeps_apart(model: Model) -> bool:
    """Does this model answer joined rows as it answers each alone? Tried, for not every architecture does."""
    import torch

    first, second = [5, 6, 7, 8, 9], [11, 12, 13]
    rows = [{"input_ids": ids, "labels": ids} for ids in (first, second)]
    batch = join(rows)
    del batch["labels"]
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            on_device = {key: tensor.to(model.device) for key, tensor in batch.items()}
            both = model(**on_device, use_cache=False, logits_to_keep=torch.tensor([5, 6, 7])).logits[0]
            alone = model(input_ids=torch.tensor([second], device=model.device), use_cache=False).logits[0]
    except TypeError:
        # An architecture that takes no positions, or cannot choose where to give logits.
        return False
    finally:
        model.train(training)
    return bool(torch.allclose(both.float(), alone.float(), atol=2e-2, rtol=1e-2))


def joined_trainer() -> Any:
    """trl's SFTTrainer with this module's loss; made in here because its base class is slow to import."""
    from trl import SFTTrainer

    class JoinedTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            # On GPUs many small products cost more than one large mask; and DDP wants one pass a step.
            alone = inputs["input_ids"].device.type == "cpu" and processes().count == 1
            loss = joined_loss(model, inputs, num_items_in_batch, at_once=AT_ONCE if alone else None)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                # The count is of all processes' tokens, and gradients are averaged over processes.
                loss = loss * self.accelerator.num_processes
            return loss

    return JoinedTrainer
