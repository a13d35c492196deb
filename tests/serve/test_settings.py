"""A server's settings in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.settings import make_config, read_settings
from hotshoe.serve.tls import TlsFiles

WHOLE = """
base = "org/model@main"
listen = "[::1]:7"
registry = "hub://acme"
slots = 4
resident = 9
max_rank = 32
context_tokens = 512
kv_cache_bytes = 4194304
sequences = 7
threads = 2
drain_seconds = 3
max_message_bytes = 1000000
tenants = "tenants.toml"
max_streams = 10
metrics = "127.0.0.1:9"
ledger = "/var/lib/usage.db"
traces = true

[tls]
certificate = "server.pem"
key = "keys/server.key"
client_authority = "/etc/ca.pem"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(text)
    return path


def test_a_file_can_say_everything_with_paths_beside_itself(tmp_path: Path) -> None:
    config = make_config(read_settings(write(tmp_path, WHOLE)))
    assert config == ServeConfig(
        base="org/model@main",
        listen="[::1]:7",
        registry="hub://acme",
        slots=4,
        resident=9,
        max_rank=32,
        context_tokens=512,
        kv_cache_bytes=4 << 20,
        sequences=7,
        threads=2,
        drain_seconds=3.0,
        max_message_bytes=1_000_000,
        tenants=tmp_path / "tenants.toml",
        max_streams=10,
        tls=TlsFiles(tmp_path / "server.pem", tmp_path / "keys/server.key", Path("/etc/ca.pem")),
        metrics="127.0.0.1:9",
        ledger=Path("/var/lib/usage.db"),
        traces=True,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("base = ", "no TOML"),
        ("slot = 3", "no setting slot; did you mean slots?"),
        ("zzz = 3", "there are: base, listen"),
        ('slots = "3"', "slots is '3': give int"),
        ("slots = 3.5", "slots is 3.5: give int"),
        ("slots = true", "slots is True: give int"),
        ("base = 3", "base is 3: give text"),
        ("traces = 1", "traces is 1: give bool"),
        ('drain_seconds = "soon"', "give float"),
        ("tenants = 3", "tenants is 3: give text"),
        ('tls = "x"', "write it as a table"),
        ('[tls]\ncertificate = "x"', "needs certificate and key"),
        ('[tls]\ncertificat = "x"', "no setting tls.certificat; did you mean certificate?"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_the_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidConfig) as raised:
        read_settings(write(tmp_path, text))
    assert says in raised.value.message
    assert "serve.toml" in raised.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"nothing\.toml"):
        read_settings(tmp_path / "nothing.toml")


def test_a_server_without_a_base_is_told_where_to_name_one() -> None:
    with pytest.raises(InvalidConfig, match="--base"):
        make_config({})


@pytest.mark.parametrize(
    ("given_settings", "resident"), [({}, 1024), ({"slots": 2000}, 2000), ({"resident": 9}, 9)]
)
def test_there_is_memory_for_at_least_as_many_adapters_as_slots(
    given_settings: dict[str, Any], resident: int
) -> None:
    assert make_config({"base": "b", **given_settings}).resident == resident


@given(st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_settings_or_invalid(tmp_path: Path, text: str) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_settings(path)
    except InvalidConfig:
        return


def test_fewer_adapters_in_memory_than_slots_by_default_make_fewer_slots() -> None:
    assert make_config({"base": "b", "resident": 4}).slots == 4
    with pytest.raises(InvalidConfig, match="resident"):
        make_config({"base": "b", "resident": 0})
