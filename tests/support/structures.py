"""Processes that follow structures over a small vocabulary, and what they say."""

from __future__ import annotations

import time

import psutil
import xgrammar

from hotshoe.serve.structures.process import Follower
from hotshoe.serve.structures.processes import UNKNOWN, Processes, Zygote
from hotshoe.serve.structures.wanted import Wanted

VOCABULARY = ["<eos>", "a", "b", "{", "}", '"', ":", ",", "1"]
EOS, A, B = 0, 1, 2


def zygote() -> Zygote:
    info = xgrammar.TokenizerInfo(VOCABULARY, vocab_size=len(VOCABULARY), stop_token_ids=[EOS])
    return Zygote(info.serialize_json())


def key(text: str, tenant: str = "") -> str:
    return Wanted.of(tenant, "grammar", text).key


def asked(processes: Processes, text: str, kind: str = "grammar", tenant: str = "") -> str | None:
    """The verdict that there is now."""
    wanted = Wanted.of(tenant, kind, text)
    found = processes.verdict(wanted.key)
    return processes.verdict(wanted.key, wanted) if found == UNKNOWN else found


def verdict(processes: Processes, text: str, kind: str = "grammar", tenant: str = "") -> str:
    """The verdict, once there is one."""
    while (found := asked(processes, text, kind, tenant)) is None:
        time.sleep(0.01)
    return found


def child_of(processes: Processes, text: str) -> psutil.Process:
    """The process of a structure that they do not know yet."""
    assert verdict(processes, 'root ::= "a"') == ""  # The zygote is there.
    others = set(psutil.Process().children(recursive=True))
    assert verdict(processes, text) == ""
    (found,) = set(psutil.Process().children(recursive=True)) - others
    return found


def allowed(processes: Processes, follower: Follower) -> set[int]:
    while not processes.ready(follower, 1.0):
        pass
    assert follower.fault is None
    if follower.mask is None:
        return set(range(len(VOCABULARY)))
    bits = int.from_bytes(follower.mask, "little")
    return {token for token in range(len(VOCABULARY)) if bits >> token & 1}
