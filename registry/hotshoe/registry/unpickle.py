"""Convert `adapter_model.bin` to safetensors: `python -I unpickle.py SOURCE TARGET`.

Run by `importing` in a process of its own, and a script on purpose: it imports nothing of Hotshoe. torch
reads the pickle with weights_only, which builds tensors and plain containers and calls nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

_SPARE_BYTES = 2 << 30
"""Memory that Python and torch take by themselves, with room; libraries mapped from files don't count."""

_COPIES = 4
"""How often the weights may stand in memory at once: the file, its tensors, their copy, the output."""

_CPU_SECONDS = 600


def main(source: Path, target: Path) -> None:
    """Convert, or exit with one line on stderr that says why not."""
    size = source.stat().st_size
    _limit(size)
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError:
        sys.exit("reading a pickle needs torch: pip install 'hotshoe[base]'")
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            sys.exit("it asks for more memory than a file of its size needs")
        first = str(error).strip().splitlines()[:1]
        sys.exit(f"it is no file of plain tensors ({type(error).__name__}: {''.join(first)[:160]})")
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in loaded.items()
    ):
        sys.exit("it holds something else than tensors by name")
    # A view of few bytes can claim any shape; written out, it would fill memory and disk.
    if sum(tensor.numel() * tensor.element_size() for tensor in loaded.values()) > 2 * size + (1 << 20):
        sys.exit("its tensors are larger than the file")
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in loaded.items()}, target, {"format": "pt"}
    )


def _limit(size: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for what, amount in (
        (resource.RLIMIT_DATA, _SPARE_BYTES + _COPIES * size),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 3 * size + (1 << 20)),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(what, (amount, amount))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
