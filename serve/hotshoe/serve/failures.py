"""Remembers which versions could not be loaded, so that a bad one is not tried again and again."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hotshoe.adapter.errors import AdapterLoadFailed, HotshoeError, Refused, RegistryUnavailable
from hotshoe.adapter.version import Version

log = logging.getLogger(__name__)

FIRST_SECONDS = 30.0
LONGEST_SECONDS = 600.0
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Refused
    seconds: float
    until: float


class Failures:
    """The last error by name: told for half a minute, twice as long after each further failure.

    At most `REMEMBERED` names, so that nobody fills the memory with names of bad versions.
    clock: seconds that never go back. listeners: told of every failure, also of those that may pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, _Failure] = OrderedDict()
        self.listeners: list[Callable[[Version, HotshoeError], None]] = []

    @contextlib.contextmanager
    def watching(self, version: Version) -> Iterator[None]:
        """Raise what callers get where the block fails; what lies in the version itself is remembered."""
        try:
            yield
        except HotshoeError as error:
            log.warning("loading %s failed: %s", version, error)
            self._note(version, error)
            raise
        except OSError as error:
            # A full disk or a lost mount is this machine's: the version may be loaded once that is mended.
            log.error("loading %s failed: %s", version, error)
            unavailable = RegistryUnavailable(
                f"{version} could not be read or kept on the server's machine: {error.strerror or error}; "
                "its operators should look at disk and rights, then try again",
                details={"adapter": str(version.adapter), "version": version.tag},
            )
            self._note(version, unavailable)
            raise unavailable from error
        except Exception as error:
            log.exception("loading %s failed", version)
            failure = AdapterLoadFailed(
                f"{version} could not be loaded: {type(error).__name__}; the server's log says more",
                details={"adapter": str(version.adapter), "version": version.tag},
            )
            self._note(version, failure)
            raise failure from error

    def raise_known(self, name: str) -> None:
        """Raise the error that `name` failed with, while that counts."""
        failure = self._known.get(name)
        if failure is not None and self._clock() < failure.until:
            # A new one each time: a raised error collects the traceback of everybody who raises it.
            raise type(failure.error)(failure.error.message, details=failure.error.details)

    def remember(self, name: str, error: Refused) -> None:
        """`name` failed, perhaps again."""
        before = self._known.pop(name, None)
        seconds = min(before.seconds * 2, LONGEST_SECONDS) if before else FIRST_SECONDS
        self._known[name] = _Failure(error, seconds, self._clock() + seconds)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, name: str) -> None:
        """`name` works now."""
        self._known.pop(name, None)

    def known(self) -> dict[str, Refused]:
        """What failed last, by name; some of it may be tried again by now."""
        return {name: failure.error for name, failure in self._known.items()}

    def _note(self, version: Version, error: HotshoeError) -> None:
        if isinstance(error, Refused):
            self.remember(version.engine_name, error)
        for listener in self.listeners:
            listener(version, error)
