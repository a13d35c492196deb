"""A folder on its way to become a version, and who changes it meanwhile."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.adapters import SUPPORT
from support.desk import Desk

from hotshoe.adapter.errors import Unservable
from hotshoe.registry.publishing import draft_version


def test_a_file_that_becomes_a_link_while_it_is_published_is_never_followed(
    desk: Desk, tmp_path: Path
) -> None:
    folder = desk.adapter(1)
    config, secret = folder / "adapter_config.json", tmp_path / "secret.json"
    own = config.read_bytes()
    secret.write_bytes(own.replace(b"{", b'{"revision": "secret", ', 1))
    stop = threading.Event()

    def swap() -> None:
        for number in itertools.count():
            draft = tmp_path / f"draft-{number % 2}"
            draft.unlink(missing_ok=True)
            if number % 2:
                draft.symlink_to(secret)
            else:
                draft.write_bytes(own)
            draft.replace(config)
            if stop.is_set():
                return

    with ThreadPoolExecutor(1) as other:
        swapping = other.submit(swap)
        outcomes = Counter(_config_drafted(folder, desk) for _ in range(150))
        stop.set()
        swapping.result(10)
    assert set(outcomes) <= {hashlib.sha256(own).hexdigest(), "refused"}
    assert len(outcomes) == 2, "both were met"


def _config_drafted(folder: Path, desk: Desk) -> str:
    with desk.registry.store.staging() as staging:
        try:
            draft = draft_version(folder, SUPPORT, desk.base, staging)
        except Unservable:
            return "refused"
    return {entry.path: entry.sha256 for entry in draft.manifest.files}["adapter_config.json"]
