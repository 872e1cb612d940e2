"""The picture of a run on a terminal of any width: what matters least gives way first."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from infra.commands.drift_shown import printable
from infra.local.advice import advice
from infra.local.picture import Picture, Service
from infra.local.status import quality_lines
from services.replay.drift.summary import subject
from services.replay.drift.words import moment
from services.runtime.models import BATCH, ONLINE

STYLES = {"ready": "green", "waiting": "yellow", "joining": "yellow", "restoring": "yellow", "stopping": "yellow"}
WIDE, MIDDLE, NARROW = 100, 70, 50  # columns
SHOWN = 5  # alerts, and versions


class Shown:
    """Draws a picture as wide as the terminal is when it is drawn."""

    def __init__(self, picture: Picture, name: str, *, once: bool = False) -> None:
        self._picture, self._name, self._once = picture, name, once

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(*self._parts(options.max_width))

    def _parts(self, width: int) -> Iterator[Any]:
        picture = self._picture
        hint = "" if self._once else "   Ctrl-C ends this"
        yield Text.assemble((self._name, "bold"), (hint, "dim"))
        if picture.broker:
            yield Text(printable(picture.broker), "bold red")
        yield from _services(picture.services, width)
        yield _topics(picture, width)
        if picture.known:
            yield from _models(picture)
            yield from _alerts(picture)
        yield from (Text(line) for line in _labels(picture.services))
        yield from (Text(line, "bold") for line in advice({one.name: one.report for one in picture.services}))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim")
    for column in columns:
        right = column in ("in/s", "out/s", "lag", "lag s", "rate/s", "offsets")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "")
    return table


def _services(services: Sequence[Service], width: int) -> Iterator[Any]:
    """Lay them out, each with its reason beside it, or below all where there is no room."""
    wide, middle, narrow = width >= WIDE, width >= MIDDLE, width < NARROW
    partitions, rates = ("partitions",) if wide else (), () if narrow else ("in/s", "out/s")
    table = _table("service", "state", *partitions, *rates, "lag", "lag s", *(("",) if middle else ()))
    for one in services:
        cells = [_rate(one.in_rate), _rate(one.out_rate)] if rates else []
        cells += [_lag(one, wide=wide), _seconds(one.lag_s), *([printable(_reason(one))] if middle else [])]
        table.add_row(one.name, _state(one), *([_owned(one)] if wide else []), *cells)
    yield table
    for one in () if middle else services:
        if reason := _reason(one):
            yield Text(printable(f"{one.name}: {reason}"))


def _state(one: Service) -> Text:
    state = one.report.status if one.report else "silent"
    return Text(state, STYLES.get(state, "bold red"))


def _owned(one: Service) -> str:
    owned = one.report.partitions if one.report else None
    return "-" if owned is None else ",".join(map(str, owned)) or "none"


def _reason(one: Service) -> str:
    if one.report is None:
        return "no answer to its probe"
    if one.report.waiting_for is None:
        return one.report.busy or ""
    since = "" if one.report.since_s is None else f", {one.report.since_s:.0f} s already"
    return f"waits for {one.report.waiting_for}{since}"


def _lag(one: Service, *, wide: bool) -> str:
    if not one.lag:
        return "-"
    named = ", ".join(f"{kind} {count:,}" for kind, count in one.lag.items() if count)
    return named or "0" if wide else f"{sum(one.lag.values()):,}"


def _topics(picture: Picture, width: int) -> Table:
    """Lay the topics side by side, as many as there is room for."""
    beside = max(1, min(3, width // 36))
    table = _table(*["topic", "rate/s", "offsets"] * beside)
    cells = [(one.name, _rate(one.rate), "?" if one.end is None else f"{one.end:,}") for one in picture.topics]
    for first in range(0, len(cells), beside):
        table.add_row(*(cell for one in cells[first : first + beside] for cell in one))
    return table


def _models(picture: Picture) -> Iterator[Text]:
    lineup = picture.chronicle.lineup
    online = "none published yet" if lineup.online is None else f"{ONLINE}@{lineup.online}"
    champion = lineup.champion
    share = 1.0 if champion is None else 1 - lineup.weight(champion)
    yield Text.assemble(("models  ", "dim"), (online, "bold"), f" live, weight {share:.3f}")
    for version in lineup.of("champion", "canary", "shadow", "registered")[-SHOWN:][::-1]:
        step = picture.chronicle.since(version)
        weight = f", weight {lineup.weight(version):.3f}" if step.state in ("champion", "canary") else ""
        name = (f"{BATCH}@{version}", "bold")
        yield Text.assemble("        ", name, printable(f" {step.state}{weight}, by {step.actor}: {step.reason}"))


def _alerts(picture: Picture) -> Iterator[Text]:
    if not picture.alerts:
        yield Text.assemble(("alerts  ", "dim"), "none stands")
    for alert in picture.alerts[-SHOWN:][::-1]:
        style = "bold red" if alert.severity == "critical" else "yellow"
        since = f" since {moment(alert.since.time)}: "
        yield Text.assemble(("alert   ", "dim"), (alert.severity, style), since, printable(subject(alert)))


def _labels(services: Iterable[Service]) -> list[str]:
    return quality_lines([one.report.labelled for one in services if one.report and one.report.labelled])


def _rate(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"  # noqa: PLR2004 - two digits are enough


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
