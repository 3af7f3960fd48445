"""Timelines: what happened to an object, merged from several records, one line an entry, the newest last."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kajitori.cli.output import paint

MOST_LINES = 40
_LONGEST_TEXT = 400
_SAME_MOMENT_SECONDS = 3.0
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Entry:
    """One line. at_seconds: since 1970. who: says so. below: indented under it, such as the last lines of a log."""

    at_seconds: float
    who: str
    what: str
    warning: bool = False
    below: tuple[str, ...] = ()


def merged(*sources: Iterable[Entry]) -> list[Entry]:
    """All in the order of time; what several sources say in the same words within moments is said once."""
    found: list[Entry] = []
    for entry in sorted((each for source in sources for each in source), key=lambda each: each.at_seconds):
        near = [
            number
            for number, known in enumerate(found[-20:], max(0, len(found) - 20))
            if known.what == entry.what and entry.at_seconds - known.at_seconds < _SAME_MOMENT_SECONDS
        ]
        if not near:
            found.append(entry)
        elif entry.below and not found[near[-1]].below:
            found[near[-1]] = replace(found[near[-1]], below=entry.below)
    return found


def print_timeline(entries: Sequence[Entry], *, every: bool = True) -> None:
    """every: also those before the last forty."""
    if not entries:
        return
    print("  what happened:")
    shown = list(entries) if every else list(entries[-MOST_LINES:])
    if len(shown) < len(entries):
        print(f"    … {len(entries) - len(shown)} earlier (--all prints them)")
    form = "%H:%M:%S" if time.time() - shown[0].at_seconds < _DAY_SECONDS else "%b %d %H:%M:%S"
    for entry in shown:
        clock = time.strftime(form, time.localtime(entry.at_seconds))
        text = (
            entry.what if every or len(entry.what) <= _LONGEST_TEXT else entry.what[: _LONGEST_TEXT - 1] + "…"
        )
        print(f"    {clock}  {entry.who}  {paint(text, '33') if entry.warning else text}")
        for line in entry.below:
            print(f"    {' ' * len(clock)}    | {line}")
