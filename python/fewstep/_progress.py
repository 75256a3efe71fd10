"""Progress of a search, by tqdm where it is installed."""

from __future__ import annotations

import logging
from typing import Any

from ._checks import warn

log = logging.getLogger("fewstep")


class Silent:
    """No bars; what the search doubts is a UserWarning, what it notes goes to `logging.getLogger("fewstep")`.

    An object with these four methods can be passed as `progress=`.

    - `began(task, unit, total, done)`: a task begins. Its name and what it counts, strings; how many there are at most, and how many
      are done already, ints.
    - `progressed(done)`: so many are done, counted from 0, those of before among them.
    - `ended()`: the task is finished or given up.
    - `note(text)`: a sentence; a doubt of the search begins with `warning: `.
    """

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
    """A bar for each task, one after the other, on stderr, in the task's unit: evaluations, samples."""

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
    """The observer that `progress` says: True for bars where tqdm is installed, False for none, or an object with the methods of `Silent`.

    Raises TypeError for an object without these methods.
    """
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
