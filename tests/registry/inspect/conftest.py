from __future__ import annotations

from pathlib import Path

import pytest
from support.lora import write_adapter


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder with a servable adapter for `support.lora.BASE_CONFIG`."""
    return write_adapter(tmp_path / "adapter")
