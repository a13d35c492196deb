"""What tests share: the tiny base, tiny adapters, and the one real engine of the session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import tiny

from hotshoe.adapter.manifest import Base

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

TINY = Base(repo="tiny", revision="", digest="0" * 64)


def pytest_configure(config: pytest.Config) -> None:
    # What these warn of in their own modules, most of it on import, is not ours to mend.
    for category in ("DeprecationWarning", "FutureWarning"):
        for module in ("torch", "vllm"):
            config.addinivalue_line("filterwarnings", f"ignore::{category}:{module}")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model's folder: 1.8 MB, always the same."""
    return tiny.build_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a PEFT folder for the tiny base: `tiny_adapter("a", seed=1)`, see support.tiny.build_adapter."""
    made: dict[tuple[Any, ...], Path] = {}

    def adapter(name: str, seed: int, **options: Any) -> Path:
        key = (name, seed, *sorted(options.items()))
        if key not in made:
            made[key] = tiny.build_adapter(tmp_path_factory.mktemp("adapter") / name, seed=seed, **options)
        return made[key]

    return adapter


@pytest.fixture(scope="session")
async def tiny_engine(tiny_base: Path) -> AsyncIterator[VllmEngine]:
    """The real engine on the tiny base; one for all tests of a session, so leave it as you found it."""
    from hotshoe.serve.vllm_config import VllmConfig
    from hotshoe.serve.vllm_engine import start_vllm_engine

    engine = await start_vllm_engine(
        VllmConfig(
            folder=tiny_base,
            base=TINY,
            slots=4,
            max_rank=16,
            cached_adapters=16,
            # Few blocks, so that each is used again soon: what one request left in it would show.
            kv_cache_bytes=4 << 20,
            max_sequences=24,
            step_tokens=256,
        )
    )
    yield engine
    await engine.close()
