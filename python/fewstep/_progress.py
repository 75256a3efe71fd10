"""Progress of a search, by tqdm where it is installed."""

from __future__ import annotations

import logging
from typing import Any

from ._checks import warn

log = logging.getLogger("fewstep")


class Silent:
    """No bars; what the search doubts is warned of, and what it notes is logged."""

    def began(self, task: str, unit: str, total: int, done: int) -> None:
        pass

    def progressed(self, done: int) -> None:
        pass

    def ended(self) -> None:
        pass

    def note(self, text: str) -> None:
        if text.startswith("warning: "):
            warn(text.removeprefix("warning: "))
        else:
            log.info(text)


class Bars(Silent):
    """A bar for each task, one after the other, on stderr."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None

    def began(self, task: str, unit: str, total: int, done: int) -> None:
        self.ended()
        self._bar = self._tqdm(desc=task, unit=f" {unit}", total=total, initial=done, leave=False)

    def progressed(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def ended(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def bars(progress: Any) -> Any:
    """What to tell: `True` for bars if tqdm is there, `False` for nothing, or an object with the methods of `Bars`."""
    if not progress:
        return Silent()
    if progress is not True:
        if not all(hasattr(progress, method) for method in ("began", "progressed", "ended", "note")):
            raise TypeError(f"progress must be True, False or an object with the methods of Bars, and is {progress!r}")
        return progress
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Silent()
    return Bars(tqdm)
