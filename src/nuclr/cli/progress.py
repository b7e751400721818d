"""Show the progress of long work and of transfers: bars in a terminal, occasional lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from nuclr.data.archives.download import Progress

logger = logging.getLogger("nuclr.download")

EVERY_S = 15.0


@contextmanager
def bar(description: str) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield a function that iterates over something, with a ``total`` if it has no length, and shows a bar.

    After an error the bar is removed, so that the message stands alone. Without a terminal there is no bar.
    """
    if not sys.stderr.isatty():
        yield lambda items, total=None: items
        return
    from rich import progress as bars

    with _shown(*bars.Progress.get_default_columns()) as shown:
        yield partial(shown.track, description=description)


@contextmanager
def _shown(*columns: Any) -> Iterator[Bars]:
    """Show bars on stderr, below what is logged; they are removed after an error."""
    from rich.console import Console
    from rich.progress import Progress

    before = sys.stderr
    with Progress(*columns, console=Console(stderr=True)) as shown:
        # Handlers keep the stream that they were made with, and would write into the bar.
        handlers = [one for one in logging.root.handlers if getattr(one, "stream", None) is before]
        for handler in handlers:
            handler.setStream(sys.stderr)  # type: ignore[attr-defined]
        try:
            yield shown
        except BaseException:
            shown.live.transient = True
            raise
        finally:
            for handler in handlers:
                handler.setStream(before)  # type: ignore[attr-defined]


@contextmanager
def transfers() -> Iterator[Progress]:
    """Yield a function that a download calls after each block to show its progress."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with _shown(*columns) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def show(name: str, done: int, size: int | None) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name)
            shown.update(tasks[name], completed=done, total=size)

        yield show


class _Lines:
    """Logs a line at most every :data:`EVERY_S` seconds, and when a file is complete."""

    def __init__(self) -> None:
        self.name, self.began, self.at_first, self.told_at = "", 0.0, 0, 0.0

    def __call__(self, name: str, done: int, size: int | None) -> None:
        now = time.monotonic()
        if name != self.name:
            self.name, self.began, self.at_first, self.told_at = name, now, done, now
        if now - self.told_at < EVERY_S and done != size:
            return
        self.told_at = now
        rate = (done - self.at_first) / max(now - self.began, 1e-3)
        share = f" of {size / 1e6:.1f} MB ({100 * done / size:.0f} %)" if size else " MB"
        left = f", {(size - done) / rate:.0f} s left" if size and rate and done < size else ""
        logger.info("%s: %.1f%s, %.1f MB/s%s", name, done / 1e6, share, rate / 1e6, left)
