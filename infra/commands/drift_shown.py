"""What `thalweg drift` shows on a terminal: lines for a person, and the same for a program."""

import math
from collections.abc import Sequence

from services.replay.drift.distributions import Bar, bars, told
from services.replay.drift.stories import Story, ranked
from services.replay.drift.summary import subject
from services.replay.drift.words import lasting, moment, number, share
from services.runtime.alerts import Explained
from services.runtime.commands import Orders

Shown = tuple[list[str], object]
BLOCKS = " ▁▂▃▄▅▆▇█"
NAMED = 5  # values of a category


def lines_list(stories: Sequence[Story], orders: Orders, now: int, *, resolved: bool) -> Shown:
    """Show a line for each alert, the gravest first, then what people have ordered."""
    chosen = ranked(story for story in stories if resolved or story.stands)
    lines = [_line(story) for story in chosen] or [_none(stories)]
    return [*map(printable, [*lines, *_orders(orders, now)])], [story.newest for story in chosen]


def _none(stories: Sequence[Story]) -> str:
    return f"no alert stands; {len(stories)} resolved (--all)" if stories else "no alert was ever raised"


def _line(story: Story) -> str:
    alert = story.newest
    state = f"resolved {moment(alert.at.time)}" if not story.stands else "silenced" if alert.silenced else "stands"
    what = f"{subject(alert)} ({alert.statistic} {number(alert.strength)})"
    return f"{alert.severity:8}  {story.id}  since {moment(story.since)}, {state}: {what}"


def _orders(orders: Orders, now: int) -> list[str]:
    lines = [
        f"silent until {moment(silence.until)}: {silence.subject}{f' ({silence.kind})' if silence.kind else ''},"
        f" by {silence.actor}: {silence.reason}"
        for silence in orders.silences(now)
    ]
    if orders.hold is not None and orders.held:
        lines.append(f"on hold, by {orders.hold.actor}: {orders.hold.reason}")
    return lines


def lines_alert(story: Story) -> Shown:
    """Show one alert whole."""
    alert = story.newest
    lines = [f"{alert.severity}: {subject(alert)}", alert.reason]
    lines.append(f"changed  {moment(story.since)}, {alert.since.topic}[{alert.since.partition}]@{alert.since.offset}")
    for turn in story.turns:
        strength = f"{turn.statistic} {number(turn.strength)}"
        lines.append(f"{turn.event:8} {moment(turn.time)}, {turn.severity}, {strength}: {turn.reason}")
    if story.end is not None:
        lines.append(f"stood    {lasting(max(story.end - story.since, 0))}")
    if alert.lost is not None:
        lines.append(f"lost     {alert.lost:+.4f} nats an event")
    if alert.retrain_from is not None:
        lines.append(f"retrain  on examples since {moment(alert.retrain_from)}")
    lines += [line for rank, one in enumerate(alert.features, 1) for line in _explained(rank, one)]
    lines += [f"slice    {one.name}, {one.statistic} {number(one.value)}" for one in alert.slices]
    lines += [f"done     {done}" for done in alert.done] or ["done     nothing yet"]
    return [*map(printable, lines)], {"alert": alert, "course": story.turns}


def _explained(rank: int, explained: Explained) -> list[str]:
    """Show the feature, and under it how it was and how it is: as blocks along its bins, or by name."""
    lines = [f"{rank}. {explained.name}, {explained.statistic} {number(explained.value)}, {told(explained)}"]
    made, of = bars(explained.before, explained.after), explained.after or explained.before
    if not made or of is None:
        return lines
    if of.names:
        changed = sorted(made, key=lambda bar: -abs(bar.after - bar.before))[:NAMED]
        return [*lines, *(f"     {bar.name}: {share(bar.before)} → {share(bar.after)}" for bar in changed)]
    low, high = number(of.edges[0] if of.edges else None), number(of.edges[-1] if of.edges else None)
    ends = f"{low} to {high}" if of.edges else ""
    return [
        *lines,
        f"     before {_blocks([bar.before for bar in made])}",
        f"     after  {_blocks(_after(made))}  {ends}",
    ]


def _after(made: Sequence[Bar]) -> list[float]:
    return [bar.after for bar in made]


def _blocks(shares: Sequence[float]) -> str:
    """Draw shares as blocks, the largest as a whole one; what is not nothing shows."""
    most = max(shares) or 1.0
    return "▕" + "".join(BLOCKS[math.ceil(part / most * (len(BLOCKS) - 1))] for part in shares) + "▏"


def printable(text: str) -> str:
    """Escape what a terminal would obey."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)
