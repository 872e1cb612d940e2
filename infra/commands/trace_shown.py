"""What `thalweg trace` shows on a terminal: the story as a tree, the records that the event became as a waterfall."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from infra.commands.drift_shown import printable
from services.replay.story.facts import Feature, Hop, Label, Learned, Predicted, Refusal, Span, Story, Why

BAR = 24  # columns of the waterfall
DERIVED, LIVE = "○", "●"
GOOD, BAD, DIM = "green", "bold red", "dim"
LONGEST = 400  # characters of an event that are shown


def shown(story: Story, causes: int, *, wide: bool) -> Group:
    """Lay it out: `causes` events are named for each feature, and there is a waterfall where the terminal is `wide`."""
    tree = Tree(_head(story), guide_style=DIM)
    for hop in story.hops:
        branch = tree.add(_hop(hop, story.hops, wide=wide))
        for line in _of_hop(story, hop, causes):
            branch.add(line)
        for span in hop.live:
            branch.add(_span(span))
    for line in _after(story):
        tree.add(line)
    return Group(tree, _legend(story))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def _head(story: Story) -> Text:
    when = "" if story.event_time is None else f", of {moment(story.event_time)}"
    trace = "" if story.trace_id is None else f", trace {story.trace_id}"
    key = "" if story.key is None else f" of {story.key}"
    style = {"refused": BAD, "waiting": "yellow"}.get(story.outcome, GOOD)
    head = Text.assemble((printable(story.event_id), "bold"), printable(f"{key}, {story.place}{when}{trace}: "))
    return head.append(story.outcome, style)


def _legend(story: Story) -> Text:
    live = sum(len(hop.live) for hop in story.hops) + len(story.spans)
    said = f"{LIVE} traced live ({live} spans)" if live else "nothing of it was traced live, or nobody keeps it"
    return Text(f"{DERIVED} derived from the log   {said}", DIM)


# The waterfall


def _hop(hop: Hop, hops: Sequence[Hop], *, wide: bool) -> Text:
    row = "" if hop.row is None else f" row {hop.row}"
    when = "" if hop.after_ms is None else "after" if hop.after_ms >= 0 else "before"
    after = "" if hop.after_ms is None else f"  {_lasting(abs(hop.after_ms) / 1000)} {when} {hop.follows}"
    line = Text.assemble(f"{DERIVED} {_clock(hop.at)} ", (f"{hop.name:12}", "bold"))
    if wide:
        line.append(f"▕{_bar(hop, hops)}▏", "cyan")
    return line.append(printable(f" {hop.topic}/{hop.partition}/{hop.offset}{row}")).append(after, DIM)


def _bar(hop: Hop, hops: Sequence[Hop]) -> str:
    """Draw when the hop was on its way: on the scale of what was served, or of all that came after."""
    served = [one for one in hops if one.name in ("event", "features", "scored", "prediction")]
    group = served if hop in served else [*served[-1:], *(one for one in hops if one not in served)]
    begin, end = min(one.at for one in group), max(one.at for one in group)
    scale = BAR / max(end - begin, 1)
    start = hop.at - (hop.after_ms or 0)
    first = min(max(int((start - begin) * scale), 0), BAR - 1)
    last = min(max(int((hop.at - begin) * scale), first + 1), BAR)
    return " " * first + "━" * (last - first) + " " * (BAR - last)


def _span(span: Span) -> Text:
    lasted = (span.end_ns - span.start_ns) / 1e6
    return Text.assemble(
        (f"{LIVE} ", "magenta"), printable(f"{span.service}: {span.name}"), (f"  {lasted:.1f} ms", DIM)
    )


# What is told of each hop


def _of_hop(story: Story, hop: Hop, causes: int) -> Iterator[Any]:
    if hop.name == "event":
        yield from _event(story)
        for refusal in story.refused:
            yield _refusal(refusal)
        if "features" not in {one.name for one in story.hops}:
            yield from _features(story, causes)
    elif hop.name == "features":
        yield from _features(story, causes)
    elif hop.name == "prediction" and story.prediction is not None:
        yield from _prediction(story.prediction)
    elif hop.name == "example" and story.label is not None:
        for example in story.label.examples:
            if (example.offset, example.row) == (hop.offset, hop.row):
                number = "" if example.number is None else f", the {example.number:,}th that is learned from"
                yield _text(f"outcome {example.outcome}: {_number(example.label)}{number}")


def _event(story: Story) -> Iterator[Text]:
    if story.event is None:
        return
    value = story.event.value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    yield _text(text if len(text) <= LONGEST else f"{text[:LONGEST]} … (--json has all of it)")
    for name, value in story.event.headers.items():
        yield _text(f"header {name}: {value}", DIM)
    if story.event.behind is not None:
        behind = _lasting(story.event.behind / 1e6)
        yield _text(f"late: {behind} behind the newest event before it, so no window counts it", "yellow")


def _refusal(refusal: Refusal) -> Text:
    again = "; sent again since" if refusal.replayed else f"; thalweg dead-letter show {refusal.place}"
    said = f"refused by {refusal.service}, {refusal.reason}: {refusal.message} (letter {refusal.letter}{again})"
    return _text(said, BAD)


def _features(story: Story, causes: int) -> Iterator[Any]:
    if story.features_agree is not None:
        yield _verdict("what was written is what the fold says, bit for bit", story.features_agree)
    for feature in story.features:
        yield _feature(feature, causes)


def _feature(feature: Feature, causes: int) -> Tree | Text:
    hot = {name: value for name, value in feature.columns.items() if value} if len(feature.columns) > 2 else None  # noqa: PLR2004 - a circle has two
    values = feature.columns if hot is None else hot
    said = ", ".join(f"{name} {value:.6g}" for name, value in values.items()) or f"{feature.name}: none is hot"
    line = Text.assemble((printable(said), "bold"))
    if feature.why is None:
        return line
    tree = Tree(line.append(printable(f"  {_why(feature.why)}"), ""), guide_style=DIM)
    line.append(
        "" if feature.why.proven is None else "  proven" if feature.why.proven else "  DIFFERENT",
        _style(feature.why.proven),
    )
    if not feature.why.group:
        return line
    known = feature.why.causes[-causes:] if causes > 0 else []
    for cause in reversed(known):
        weight = "" if cause.weight is None else f", weight {cause.weight:.3g}"
        value = "" if cause.value is None else f" {cause.value:g}"
        tree.add(_text(f"{cause.event_id} (offset {cause.offset}, {moment(cause.time)}){value}{weight}", DIM))
    if known and feature.why.count > len(known):
        tree.add(_text(f"… and {feature.why.count - len(known):,} before", DIM))
    return tree


def _why(why: Why) -> str:
    if not why.group:
        return why.said
    group = ", ".join(f"{field}={value}" for field, value in why.group.items())
    of = f" of {why.of}" if why.of else ""
    span = "" if why.window is None else f" over {why.window}" if why.start is not None else f", half-life {why.window}"
    since = "" if why.start is None else f", from {moment(why.start)} on (the oldest pane is whole)"
    forgotten = "" if why.forgotten is None else f"; what was before offset {why.forgotten} was forgotten"
    events = {0: "no event", 1: "1 event"}.get(why.count, f"{why.count:,} events")
    return f"{why.op}{of}{span}: {events} of {group}{since}{forgotten}"


def _prediction(said: Predicted) -> Iterator[Text]:
    mix = " + ".join(f"{one.weight:.4f} of {one.version}" for one in said.scores if one.weight)
    degraded = "; degraded: one that should have counted gave no score" if said.degraded else ""
    yield _verdict(f"served {said.served:.6f} = {mix}{degraded}", said.agrees)
    for one in said.scores:
        more = "" if one.state is None else f", {one.state}"
        more += "" if one.beside is None else f", weight {one.beside:.4f} beside the online model"
        again = (
            f"; can't be made again: {one.why_not}"
            if one.why_not
            else ""
            if one.again is None
            else f", again {one.again:.6f}"
        )
        yield _verdict(f"{one.version} said {one.score:.6f}{again}{more}", one.agrees)


def _verdict(said: str, agrees: bool | None) -> Text:  # noqa: FBT001 - what the line is about
    word = "" if agrees is None else "  agrees" if agrees else "  DIFFERENT"
    return Text.assemble(printable(said), (word, _style(agrees)))


def _style(agrees: bool | None) -> str:  # noqa: FBT001 - what it is about
    return DIM if agrees is None else GOOD if agrees else BAD


# What came of it


def _after(story: Story) -> Iterator[Any]:
    if story.label is not None:
        yield _label(story.label)
        for refusal in story.label.refused:
            yield _refusal(refusal)
    if story.learned is not None and story.label is not None and story.label.examples:
        yield _learned(story.learned)
    for one in story.decided:
        what = f"rollout moved {one.version} to {one.state} against {one.rival}, on {one.examples:,} examples, it too"
        yield _text(f"{what} (models/0/{one.offset}, {_clock(one.at)}): {one.reason}")
    for span in story.spans:
        yield _span(span)
    for note in story.notes:
        yield _text(f"note: {note}", "yellow")


def _label(label: Label) -> Text:
    until = f"waited for until {moment(label.deadline)}"
    clock = "no label of its partition came yet" if label.clock is None else f"labels are at {moment(label.clock)}"
    if label.state != "known":
        means = f", which means: {label.on_timeout}" if label.state == "never came" else ""
        return _text(f"label: {label.state}{means}; {until}, {clock}", "yellow")
    waited = "" if label.waited_s is None else f", {_lasting(label.waited_s)} after the event"
    when = "" if label.read_after_ms is None else "after" if label.read_after_ms >= 0 else "before"
    read = (
        "" if label.read_after_ms is None else f", sent {_lasting(abs(label.read_after_ms) / 1000)} {when} the scores"
    )
    corrected = sum(example.retracts is not None for example in label.examples)
    more = f"; corrected {corrected} times" if corrected else ""
    return _text(f"label: {_number(label.value)} of {moment(label.time or 0)}{waited}{read}{more}")


def _learned(learned: Learned) -> Tree:
    tree = Tree(_text(f"learned: {learned.version or 'by nobody, as nothing is known of it'}"), guide_style=DIM)
    if learned.published is not None and learned.published_at is not None:
        tree.add(_text(f"live in {learned.published} first, published {_clock(learned.published_at)}"))
    elif learned.version is not None:
        tree.add(_text("in no version that is on `models` yet"))
    if learned.table is not None:
        tree.add(_text(f"in version {learned.table} of the trainer's table, and those after it"))
    for one in learned.trained:
        window = "" if one.since is None else f", window {one.window} of the change of {moment(one.since)}"
        tree.add(_text(f"{one.version} was trained on version {one.table_version} of it{window}, by {one.by}"))
    if learned.unknown:
        tree.add(_text(f"not known here of: {', '.join(learned.unknown)}", DIM))
    return tree


def _number(value: float | None) -> str:
    return "nothing is known" if value is None else f"{value:g}"


def moment(micros: int) -> str:
    """Return an event time (µs since 1970) as a person reads it."""
    try:
        return dt.datetime.fromtimestamp(micros / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{micros} µs"


def _clock(millis: int) -> str:
    """Return a broker's time in this machine's zone."""
    return dt.datetime.fromtimestamp(millis / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _lasting(seconds: float) -> str:
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    if abs(seconds) < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
