"""`adapter_config.json`: read strictly, judged by what the engine makes of it.

vLLM (lora/peft_helper.py) refuses some options, and never looks at others that change what PEFT computes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from hotshoe.registry.inspect.findings import Finding, Malformed, error, warning
from hotshoe.registry.inspect.folder import CONFIG_FILE, MAX_BYTES, read_whole
from hotshoe.registry.inspect.patterns import MAX_PATTERNS, branches, by_pattern, has_quantifier, is_safe
from hotshoe.registry.inspect.strict_json import parse_object

MAX_RANK = 512
"""The largest `max_lora_rank` that vLLM takes."""

MAX_ALPHA = 1e6
"""Far above any in use; whether alpha suits the weights is decided by their norms (values.py)."""

ALLOWED_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Inits that leave the base as it is, so that the saved adapter is a plain LoRA.

Not lora_ga, which vLLM takes: it was trained beside weights from which its beginning was subtracted, and
neither vLLM nor PEFT does that again on loading. What PEFT has converted on saving says True here.
"""

_RESAVE = "train or save the adapter as a plain LoRA"

_REFUSED_OPTIONS = {
    "modules_to_save": ("MODULES_TO_SAVE", "stores whole modules", "train without modules_to_save"),
    "use_dora": ("DORA", "is DoRA", _RESAVE),
    "lora_bias": ("BIAS", "has LoRA biases", "train with lora_bias=False"),
    "alora_invocation_tokens": ("ALORA", "is an activated LoRA", _RESAVE),
    "layer_replication": ("LAYER_REPLICATION", "copies layers of the base", _RESAVE),
    "use_bdlora": ("BDLORA", "is a block-diagonal LoRA", _RESAVE),
    "use_qalora": ("QALORA", "is QALoRA", _RESAVE),
    "kasa_config": ("KASA", "is KaSA, which changes the base's weights", _RESAVE),
    "arrow_config": ("ARROW", "routes between adapters (Arrow)", _RESAVE),
    "monteclora_config": ("MONTECLORA", "is MonteCLoRA", _RESAVE),
    # PEFT imports whatever module megatron_core names, for everybody who trains on (tuners/lora/tp_layer.py).
    "megatron_config": ("MEGATRON", "has PEFT import a module that it names", _RESAVE),
    "trainable_token_indices": (
        "TRAINABLE_TOKENS",
        "trains single tokens of the embedding",
        "train without trainable_token_indices",
    ),
}

_NESTED_OPTIONS = ("corda_config", "eva_config", "loftq_config", "lora_ga_config", "velora_config")

_KNOWN_OPTIONS = frozenset(
    {
        *_REFUSED_OPTIONS,
        *_NESTED_OPTIONS,
        "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias",
        "ensure_weight_tying", "exclude_modules", "fan_in_fan_out", "inference_mode",
        "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
        "lora_dropout", "megatron_core", "peft_type", "peft_version",
        "qalora_group_size", "r", "rank_pattern", "revision", "target_modules", "target_parameters",
        "task_type", "use_rslora",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The part of the config that the weights are judged by.

    The patterns map a regular expression over module names to a rank or an alpha, as PEFT writes them.
    """

    rank: int
    alpha: float
    rslora: bool
    targets: tuple[str, ...]
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    def rank_of(self, module: str) -> int:
        """The rank that the config gives `module` (its name without `base_model.model.`)."""
        return int(by_pattern(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str) -> float:
        """What B·A is multiplied by: alpha/r, or alpha/sqrt(r) with rsLoRA (arXiv:2312.03732)."""
        rank, alpha = self.rank_of(module), by_pattern(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def read_config(path: Path) -> dict[str, Any]:
    """The config as it stands; raise Malformed where it is no JSON object that everyone reads alike."""
    try:
        return parse_object(read_whole(path, MAX_BYTES[CONFIG_FILE]))
    except ValueError as failure:
        raise Malformed(
            error("BAD_CONFIG", path.name, f"is not valid JSON: {failure}", "save the adapter again")
        ) from failure


def parse_config(raw: Mapping[str, Any]) -> AdapterConfig | None:
    """The config's values, or None where `config_findings` has an error about one of them."""
    if any(True for _ in _number_findings(raw)):
        return None
    targets = raw.get("target_modules")
    return AdapterConfig(
        rank=raw["r"],
        alpha=float(raw["lora_alpha"]),
        rslora=raw.get("use_rslora") is True,
        targets=tuple(targets) if isinstance(targets, list) else (),
        rank_pattern=dict(raw.get("rank_pattern") or {}),
        alpha_pattern={key: float(value) for key, value in (raw.get("alpha_pattern") or {}).items()},
    )


def config_findings(raw: Mapping[str, Any], *, max_rank: int | None) -> Iterator[Finding]:
    """Judge the options; `max_rank` is the server's limit where it is known."""
    numbers = list(_number_findings(raw))
    yield from numbers
    yield from _place_findings(raw)
    yield from _built_findings(raw)
    yield from _kind_findings(raw)
    yield from _feature_findings(raw)
    if not numbers:
        yield from _limit_findings(raw, max_rank)


def matching_steps(config: AdapterConfig, modules: Collection[str]) -> int:
    """How many characters are looked at, at worst, where every pattern is matched with every module.

    A key is tried behind each dot of the name; with a quantifier it may go to the end each time.
    """
    tries = sum(module.count(".") + 1 for module in modules)
    walks = sum((module.count(".") + 1) * len(module) for module in modules)
    return sum(
        branches(key) * (walks if has_quantifier(key) else tries)
        for key in (*config.rank_pattern, *config.alpha_pattern)
    )


def _number_findings(raw: Mapping[str, Any]) -> Iterator[Finding]:
    if not _whole(raw.get("r")):
        yield _bad("BAD_RANK", "r", raw.get("r"), "a whole number over 0")
    if not _finite(raw.get("lora_alpha")):
        yield _bad("BAD_ALPHA", "lora_alpha", raw.get("lora_alpha"), f"a number up to {MAX_ALPHA:.0e}")
    if not isinstance(raw.get("use_rslora") or False, bool):
        yield _bad("BAD_CONFIG", "use_rslora", raw["use_rslora"], "true or false")
    targets = raw.get("target_modules")
    if not (
        (isinstance(targets, str) and targets)
        or (isinstance(targets, list) and targets and all(isinstance(item, str) for item in targets))
        or (not targets and raw.get("target_parameters") and "target_modules" in raw)
    ):
        yield _bad("BAD_TARGETS", "target_modules", targets, "a list of module names, or a pattern")
    yield from _pattern_findings("rank_pattern", raw.get("rank_pattern"))
    yield from _pattern_findings("alpha_pattern", raw.get("alpha_pattern"))


def _pattern_findings(option: str, patterns: object) -> Iterator[Finding]:
    if not isinstance(patterns or {}, dict) or len(patterns or ()) > MAX_PATTERNS:  # type: ignore[arg-type]
        yield _bad("BAD_PATTERN", option, patterns, f"an object of at most {MAX_PATTERNS} entries")
        return
    for key, value in (patterns or {}).items():  # type: ignore[attr-defined]
        if not is_safe(key):
            yield _bad(
                "BAD_PATTERN", option, key, "a module name, or a simple pattern with one quantifier at most"
            )
        elif option == "rank_pattern" and not _whole(value):
            yield _bad("BAD_RANK", f"{option}[{key}]", value, "a whole number over 0")
        elif option == "alpha_pattern" and not _finite(value):
            yield _bad("BAD_ALPHA", f"{option}[{key}]", value, f"a number up to {MAX_ALPHA:.0e}")


def _place_findings(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Of what PEFT finds the modules by, when somebody trains on: it runs the texts as patterns."""
    targets, excluded = raw.get("target_modules"), raw.get("exclude_modules") or []
    if isinstance(targets, str) and targets and not is_safe(targets, quantifiers=2):
        # vLLM goes by the tensors' names, so it is served.
        yield warning(
            "COMPLEX_TARGETS",
            CONFIG_FILE,
            f"has a pattern for target_modules, {_shown(targets)}, that could make a match run away",
            "list the names of the modules there: nothing is trained on it as it is",
        )
    if isinstance(excluded, str):
        if not is_safe(excluded, quantifiers=2):
            yield _bad("BAD_PATTERN", "exclude_modules", excluded, "a list of module names")
    elif not _list_of(excluded, str):
        yield _bad("BAD_TARGETS", "exclude_modules", excluded, "a list of module names")
    layers = raw.get("layers_to_transform")
    if layers is not None and not _list_of(layers if isinstance(layers, list) else [layers], int):
        yield _bad("BAD_TARGETS", "layers_to_transform", layers, "a list of layers' numbers")
    named = raw.get("layers_pattern") or []
    for pattern in named if isinstance(named, list) else [named]:
        if not is_safe(pattern):
            yield _bad("BAD_PATTERN", "layers_pattern", pattern, "the name of the list of layers")


def _built_findings(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Of what PEFT builds more than LoRA's factors of, when somebody trains on."""
    dropout = raw.get("lora_dropout")
    if dropout is not None and (not _finite(dropout) or not 0 <= dropout <= 1):
        yield _bad("BAD_CONFIG", "lora_dropout", dropout, "a number from 0 to 1")
    for option in _NESTED_OPTIONS:
        if not isinstance(raw.get(option) or {}, dict):
            yield _bad("BAD_CONFIG", option, raw[option], "an object")


def _kind_findings(raw: Mapping[str, Any]) -> Iterator[Finding]:
    if raw.get("peft_type") != "LORA":
        yield _bad(
            "NOT_LORA", "peft_type", raw.get("peft_type"), "LORA; the engine takes others for it in silence"
        )
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        yield error(
            "WRONG_TASK",
            CONFIG_FILE,
            f"was trained for {_shown(raw['task_type'])}, not to generate text",
            "train with task_type CAUSAL_LM",
        )
    if raw.get("bias", "none") != "none":
        yield error(
            "BIAS", CONFIG_FILE, f"trains biases (bias={_shown(raw['bias'])})", "train with bias='none'"
        )
    init = raw.get("init_lora_weights", True)
    if not isinstance(init, bool) and not (isinstance(init, str) and init.lower() in ALLOWED_INITS):
        yield error(
            "BASE_CHANGING_INIT",
            CONFIG_FILE,
            f"begins from init_lora_weights={_shown(init)}, which changes the base's own weights",
            "convert it on saving: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )


def _feature_findings(raw: Mapping[str, Any]) -> Iterator[Finding]:
    for option, (code, message, next_step) in _REFUSED_OPTIONS.items():
        if raw.get(option):
            yield error(code, CONFIG_FILE, f"{message} ({option}), which the engine cannot serve", next_step)
    unknown = sorted(key for key, value in raw.items() if value and key not in _KNOWN_OPTIONS)
    if unknown:
        yield warning(
            "UNKNOWN_OPTION",
            CONFIG_FILE,
            f"sets options that neither the engine nor Hotshoe knows: {', '.join(map(_shown, unknown[:5]))}",
            "compare the served answers with PEFT's",
        )


def _limit_findings(raw: Mapping[str, Any], max_rank: int | None) -> Iterator[Finding]:
    rank, limit = (
        max([raw["r"], *(raw.get("rank_pattern") or {}).values()]),
        min(max_rank or MAX_RANK, MAX_RANK),
    )
    if rank > limit:
        whose = "the server" if max_rank and max_rank <= MAX_RANK else "vLLM"
        yield error(
            "RANK_TOO_HIGH",
            CONFIG_FILE,
            f"has rank {rank}, {whose} takes {limit}",
            f"train with r <= {limit}",
        )
    if raw["lora_alpha"] <= 0:
        what = "does nothing" if raw["lora_alpha"] == 0 else "subtracts what was learned"
        yield warning(
            "ODD_ALPHA", CONFIG_FILE, f"has lora_alpha {raw['lora_alpha']}, so it {what}", "is that meant?"
        )


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_ALPHA


def _list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _bad(code: str, option: str, value: object, wanted: str) -> Finding:
    found = "is missing" if value is None else f"is {_shown(value)}"
    return error(code, CONFIG_FILE, f"{option} {found}", f"it must be {wanted}")


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | bool | None) else str(type(value).__name__)
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:.6g}" if abs(value) < 1e300 else "a number beyond bounds"
    return text if len(text) <= 80 else text[:77] + "..."
