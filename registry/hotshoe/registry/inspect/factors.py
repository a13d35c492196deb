"""From tensor names to pairs of LoRA factors, and what is wrong with a name, a pair or a shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hotshoe.registry.inspect.config import AdapterConfig
from hotshoe.registry.inspect.findings import Finding, error, warning
from hotshoe.registry.inspect.folder import CONFIG_FILE, WEIGHTS_FILE
from hotshoe.registry.inspect.header import Tensor
from hotshoe.registry.inspect.shapes import MAX_LM_HEAD_VOCABULARY, BaseShapes

FLOATS = frozenset({"F16", "BF16", "F32", "F64"})

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?:(?P<linear>[AB])\.weight|embedding_(?P<embedding>[AB]))")
_MAX_TARGETS_COMPARED = 1000
_NAMED = re.compile(r".+\.lora_(?:embedding_)?[AB]\.[^.]+(?:\.weight)?")


@dataclass(frozen=True, slots=True)
class Pair:
    """The two factors of one module: ΔW = scale · B·A, with A [rank, in] and B [out, rank]."""

    module: str
    a: Tensor
    b: Tensor

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def target(self) -> str:
        return self.module.rsplit(".", 1)[-1]


def pair_up(tensors: Iterable[Tensor]) -> tuple[list[Pair], list[Finding]]:
    """Match each A with its B. What does not match, or is no LoRA factor at all, becomes a finding."""
    factors: dict[str, dict[str, Tensor]] = {}
    findings: list[Finding] = []
    refused: set[str] = set()
    for tensor in tensors:
        found = _FACTOR.fullmatch(tensor.name)
        module = found["module"].removeprefix(_PREFIX) if found else ""
        side = (found["linear"] or found["embedding"]) if found else ""
        wrong = _name_finding(tensor.name, module) or _tensor_finding(tensor)
        if wrong is None and side in factors.get(module, {}):
            wrong = _twice(tensor, factors[module][side])
        if wrong is None:
            factors.setdefault(module, {})[side] = tensor
        else:
            findings.append(wrong)
            refused.add(module)
    pairs = [Pair(module, sides["A"], sides["B"]) for module, sides in factors.items() if len(sides) == 2]
    # Where one side was refused above, the other is not accused of being alone as well.
    findings += [
        _alone(tensor, "B" if side == "A" else "A")
        for module, sides in factors.items()
        if len(sides) == 1 and module not in refused
        for side, tensor in sides.items()
    ]
    if not factors and not findings:
        findings.append(
            error("NO_TENSORS", WEIGHTS_FILE, "holds no tensors", "save the adapter after training")
        )
    return sorted(pairs, key=lambda pair: pair.module), findings


def pair_findings(
    pairs: list[Pair], config: AdapterConfig | None, base: BaseShapes | None, served: frozenset[str]
) -> Iterator[Finding]:
    """Judge each pair against the config's ranks, the base's shapes and the modules that are served."""
    for pair in pairs:
        yield from _rank_findings(pair, config)
        if pair.target not in served:
            yield error(
                "NOT_SERVED",
                pair.a.name,
                f"is for {pair.target}, a module that is not served: it would be left out",
                f"train with target_modules among {', '.join(sorted(served))}",
            )
        if base is not None:
            yield from _base_findings(pair, base)
    if config is not None and pairs and len(config.targets) <= _MAX_TARGETS_COMPARED:
        # One text to look in: names and targets may both be many.
        touched = "".join(f".{pair.module}\n" for pair in pairs)
        for target in config.targets:
            if f".{target}\n" not in touched:
                yield warning(
                    "UNUSED_TARGET",
                    CONFIG_FILE,
                    f"targets {target[:80]}, but has no weights for it",
                    "is that meant?",
                )


def _rank_findings(pair: Pair, config: AdapterConfig | None) -> Iterator[Finding]:
    if pair.a.shape[0] != pair.b.shape[1]:
        yield _bad_shape(pair.b, f"{pair.a.shape[0]} columns, as many as its lora_A has rows")
    elif config is not None and pair.rank != config.rank_of(pair.module):
        yield error(
            "RANK_MISMATCH",
            pair.a.name,
            f"has rank {pair.rank}, the config says {config.rank_of(pair.module)}: its scale would be wrong",
            "save config and weights together again",
        )


def _base_findings(pair: Pair, base: BaseShapes) -> Iterator[Finding]:
    features = base.features(pair.module)
    if features is None:
        yield error(
            "NO_SUCH_MODULE",
            pair.a.name,
            f"is for a module that this {base.model_type} of {base.layers} layers lacks: it would do nothing",
            "was it trained on another base?",
        )
        return
    if pair.a.shape[1] != features[0]:
        yield _bad_shape(pair.a, f"{features[0]} columns, the base's input there")
    if pair.b.shape[0] != features[1]:
        yield _bad_shape(pair.b, f"{features[1]} rows, the base's output there")
    if pair.target == "lm_head" and base.vocabulary > MAX_LM_HEAD_VOCABULARY:
        yield error(
            "VOCABULARY_TOO_LARGE",
            pair.a.name,
            f"is for a head of {base.vocabulary} tokens; vLLM takes LoRA on {MAX_LM_HEAD_VOCABULARY} at most",
            "train without lm_head",
        )


def _tensor_finding(tensor: Tensor) -> Finding | None:
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        return _bad_shape(tensor, "two sizes, both over 0")
    if tensor.dtype not in FLOATS:
        return error(
            "BAD_DTYPE",
            tensor.name,
            f"is {tensor.dtype}; the engine would read its numbers as if they were plain floats",
            "save the adapter in float32, bfloat16 or float16",
        )
    return None


def _name_finding(name: str, module: str) -> Finding | None:
    if module:
        if name.startswith(_PREFIX) and _PREFIX not in f"{module}.":
            return None
        return error(
            "WRONG_PREFIX",
            name,
            f"does not begin with {_PREFIX} once: engine or PEFT would leave it out in silence",
            "rename the tensors as PEFT's save_pretrained does",
        )
    if name.endswith("lora_magnitude_vector") or ".lora_magnitude_vector" in name:
        return error(
            "DORA", name, "is DoRA's magnitude, which the engine cannot serve", "train with use_dora=False"
        )
    if name.endswith((".bias", "lora_bias")):
        return error("BIAS", name, "is a bias, which the engine cannot serve", "train with bias='none'")
    if "trainable_tokens" in name:
        return error(
            "TRAINABLE_TOKENS", name, "trains single tokens", "train without trainable_token_indices"
        )
    if "modules_to_save" in name:
        return error("MODULES_TO_SAVE", name, "is a whole module", "train without modules_to_save")
    if name.endswith((".base_layer.weight", "embed_tokens.weight", "lm_head.weight")):
        return error(
            "BASE_WEIGHTS",
            name,
            "is the base's own weight, which the engine does not take from an adapter",
            "save with save_embedding_layers=False, and keep the base's vocabulary",
        )
    if _NAMED.fullmatch(name):
        return error(
            "NAMED_FACTOR",
            name,
            "still has PEFT's inner adapter name",
            "save with save_pretrained, which takes it out",
        )
    return error(
        "NO_LORA_TENSOR",
        name,
        "is no LoRA factor (…lora_A.weight, …lora_B.weight)",
        "save the adapter with PEFT as a plain LoRA",
    )


def _twice(tensor: Tensor, other: Tensor) -> Finding:
    return error(
        "DUPLICATE_FACTOR",
        tensor.name,
        f"stands for the same factor as {other.name[-80:]}",
        "save the adapter again",
    )


def _alone(tensor: Tensor, missing: str) -> Finding:
    return error(
        "MISSING_FACTOR", tensor.name, f"has no lora_{missing} beside it", "save the adapter again, whole"
    )


def _bad_shape(tensor: Tensor, wanted: str) -> Finding:
    return error(
        "BAD_SHAPE",
        tensor.name,
        f"has shape {list(tensor.shape)}, expected {wanted}",
        "was it trained on another base, or saved transposed?",
    )
