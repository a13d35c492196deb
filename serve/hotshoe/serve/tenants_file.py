"""`tenants.toml`: who may call, what with, and how much; read strictly, and again whenever it changes.

[tenants.acme]
keys = ["sha256:9f86d081884c7d65..."]     # `hotshoe tenant-key` makes a key and prints this line
subjects = ["acme-app"]                   # common names of client certificates (mutual TLS)
adapters = ["acme/*", "shared/summary"]   # what it may use; `*` stands for any part of a name
default_adapter = "acme/support@prod"     # answers where a request names none
base = false                              # may it use the base alone?
weight = 2.0                              # its share of a busy engine, beside the others' weights
admin = false                             # may it use the Admin service?

[tenants.acme.limits]                     # each one may be left out
requests_per_second = 20
concurrent = 64
queued = 128
tokens_per_minute = 60000
max_tokens = 512
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from hotshoe.adapter.errors import HotshoeError, InvalidConfig, PermissionDenied
from hotshoe.adapter.reference import AdapterRef
from hotshoe.serve.tenants import QUEUED, Limits, Tenant, Tenants

_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_PATTERN = re.compile(r"[A-Za-z0-9._*-]+/[A-Za-z0-9._*-]+")


def parse_tenants(text: str) -> Tenants:
    """Read `tenants.toml`; raise InvalidConfig that names the entry and what is wrong with it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"the tenants file is no TOML: {error}") from error
    _known("the tenants file", document, ["tenants"])
    by_name: dict[str, Tenant] = {}
    by_key: dict[str, Tenant] = {}
    by_subject: dict[str, Tenant] = {}
    for name, raw in _table("tenants", document.get("tenants", {})).items():
        where = f"tenants.{name}"
        table = _table(where, raw)
        tenant = by_name[name] = _tenant(name, where, table)
        keys = [_key_hash(f"{where}.keys", each) for each in _texts(where, table, "keys")]
        _claim(by_key, tenant, keys, f"{where}.keys")
        _claim(by_subject, tenant, _texts(where, table, "subjects"), f"{where}.subjects")
    return Tenants(by_name, by_key, by_subject)


def _tenant(name: str, where: str, table: Mapping[str, Any]) -> Tenant:
    if not _NAME.fullmatch(name):
        raise InvalidConfig(
            f"{where}: a tenant's name is 1 to 63 lower-case letters, digits, '.', '_' or '-'"
        )
    own = ["keys", "subjects", "adapters", "default_adapter", "base", "weight", "admin", "limits"]
    _known(where, table, own)
    adapters = tuple(_texts(where, table, "adapters"))
    for pattern in adapters:
        if not _PATTERN.fullmatch(pattern):
            raise InvalidConfig(f"{where}.adapters: {pattern!r} is no pattern; write acme/* or acme/support")
    tenant = Tenant(
        name=name,
        adapters=adapters,
        default_adapter=_default_adapter(where, table),
        base=_flag(where, table, "base", default=True),
        weight=_number(where, table, "weight", least=0.01, most=1000) or 1.0,
        admin=_flag(where, table, "admin", default=False),
        limits=_limits(f"{where}.limits", _table(f"{where}.limits", table.get("limits", {}))),
    )
    try:
        if tenant.default_adapter is not None or tenant.base:
            tenant.choose(None)
    except PermissionDenied as error:
        raise InvalidConfig(f"{where}.default_adapter is none of its own adapters") from error
    return tenant


def _default_adapter(where: str, table: Mapping[str, Any]) -> AdapterRef | None:
    text = table.get("default_adapter")
    if text is None:
        return None
    try:
        return AdapterRef.parse(_text(f"{where}.default_adapter", text))
    except HotshoeError as error:
        raise InvalidConfig(f"{where}.default_adapter: {error.message}") from error


def _limits(where: str, table: Mapping[str, Any]) -> Limits:
    _known(where, table, [each.name for each in fields(Limits)])
    queued = _whole(where, table, "queued", least=0)
    return Limits(
        requests_per_second=_number(where, table, "requests_per_second", least=0.001),
        concurrent=_whole(where, table, "concurrent", least=1),
        queued=QUEUED if queued is None else queued,
        tokens_per_minute=_number(where, table, "tokens_per_minute", least=1),
        max_tokens=_whole(where, table, "max_tokens", least=1),
    )


def _claim(owners: dict[str, Tenant], tenant: Tenant, credentials: Iterable[str], where: str) -> None:
    for credential in credentials:
        owner = owners.setdefault(credential, tenant)
        if owner is not tenant:
            raise InvalidConfig(f"{where}: {credential[:20]} is tenant {owner.name}'s already")


def _known(where: str, table: Mapping[str, Any], names: list[str]) -> None:
    for name in table:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
            raise InvalidConfig(f"{where} has no key {name!r}; {hint}")


def _table(where: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidConfig(f"{where} is {value!r}: write it as a table, [{where}]")
    return value


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidConfig(f"{where} is {value!r}: write text in quotes")
    return value


def _texts(where: str, table: Mapping[str, Any], name: str) -> list[str]:
    value = table.get(name, [])
    if not isinstance(value, list):
        raise InvalidConfig(f'{where}.{name} is {value!r}: write a list, ["..."]')
    return [_text(f"{where}.{name}", each) for each in value]


def _key_hash(where: str, text: str) -> str:
    if not _HASH.fullmatch(text):
        # Not shown: it may well be the key itself.
        raise InvalidConfig(
            f"{where}: an entry is no hash; `hotshoe tenant-key` prints sha256:... to put here"
        )
    return text


def _flag(where: str, table: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = table.get(name, default)
    if not isinstance(value, bool):
        raise InvalidConfig(f"{where}.{name} is {value!r}: write true or false")
    return value


def _number(
    where: str, table: Mapping[str, Any], name: str, *, least: float, most: float = math.inf
) -> float | None:
    value = table.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        limits = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
        raise InvalidConfig(f"{where}.{name} is {value!r}: give a number, {limits}")
    return float(value)


def _whole(where: str, table: Mapping[str, Any], name: str, *, least: int) -> int | None:
    value = table.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidConfig(f"{where}.{name} is {value!r}: give a whole number, {least} or more")
    return value
