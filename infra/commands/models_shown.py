"""What `thalweg models` shows: lines for a person, and the same for a program."""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

from services.replay.duels import Duel, Part, model_name
from services.runtime.chronicle import Chronicle, Step
from services.runtime.models import BATCH, ONLINE

Shown = tuple[list[str], object]
NOBODY = "no version of the batch model is registered for this feature set"


def lines_list(chronicle: Chronicle) -> Shown:
    """Show a line for each version, the newest first."""
    lineup = chronicle.lineup
    told = [_told(chronicle, version) for version in sorted(lineup.candidates, reverse=True)]
    head = ("version", "state", "keys", "weight", "loss", "prior", "examples", "since", "by")
    rows = [
        (
            one["version"],
            one["state"],
            f"{one['share']:.0%}" if one["share"] else "-",
            f"{one['weight']:.3f}" if one["scored"] else "-",
            f"{one['loss']:.4f}",
            f"{one['prior_loss']:.4f}",
            str(one["examples"]),
            one["since"],
            one["actor"],
        )
        for one in told
    ]
    online = "none published yet" if lineup.online is None else f"{ONLINE}@{lineup.online}"
    lines = [*_table([head, *rows])] if rows else [NOBODY]
    return [*lines, f"online model: {online}"], {"online": lineup.online, "versions": told}


def _told(chronicle: Chronicle, version: int) -> dict[str, Any]:
    """Return what is to be said of a version. `share` is that of the keys: what a canary leaves for a champion."""
    lineup, since = chronicle.lineup, chronicle.since(version)
    found = lineup.candidates[version]
    taken = sum(lineup.candidates[canary].share for canary in lineup.of("canary"))
    return {
        "version": f"{BATCH}@{version}",
        "state": found.state,
        "share": max(1 - taken, 0.0) if found.state == "champion" else found.share,
        "scored": found.state in ("shadow", "canary", "champion"),
        "weight": lineup.weight(version),
        "loss": found.registered.loss,
        "prior_loss": found.registered.prior_loss,
        "examples": found.registered.examples,
        "since": _when(since.time),
        "actor": since.actor,
        "reason": since.reason,
    }


def lines_history(steps: Sequence[Step]) -> Shown:
    """Show each decision in order, its evidence below it."""
    lines = [line for step in steps for line in _step(step)]
    told = [
        {
            "time": _when(step.time),
            "version": f"{BATCH}@{step.version}",
            "from": step.before,
            "to": step.state,
            "actor": step.actor,
            "reason": step.reason,
            "share": step.share,
            "evidence": step.evidence,
            "alert": step.alert,
        }
        for step in steps
    ]
    return lines or ["no decision on any version yet"], told


def _step(step: Step) -> list[str]:
    moved = f"{step.before} → {step.state}" if step.before else step.state
    share = f" for {step.share:.0%} of the keys" if step.share else ""
    why = f" (for alert {step.alert})" if step.alert else ""
    lines = [f"{_when(step.time)}  {BATCH}@{step.version}{why}  {moved}{share}, by {step.actor}: {step.reason}"]
    if step.evidence:
        numbers = ", ".join(f"{name} {number:.6g}" for name, number in step.evidence.items())
        lines.append(f"    evidence: {numbers}")
    return lines


def lines_at(chronicle: Chronicle, time: dt.datetime) -> Shown:
    """Show who answered then; `chronicle` has what came until then."""
    lineup = chronicle.lineup
    told = [_told(chronicle, version) for version in lineup.of("champion", "canary", "shadow")]
    asked = {"time": time.isoformat(), "online": lineup.online, "versions": told}
    if lineup.online is None or chronicle.online_since is None:
        return [f"at {time.isoformat(' ')} no model was published yet: nothing was served"], asked
    lines = [f"at {time.isoformat(' ')}:", f"{ONLINE}@{lineup.online}, published {_when(chronicle.online_since)}"]
    return [*lines, *map(_answering, told)] if told else [*lines, "no version of the batch model was asked"], asked


def _answering(one: dict[str, Any]) -> str:
    counts = f"weight {one['weight']:.3f} beside {1 - one['weight']:.3f} of the online model"
    served = f"for {one['share']:.0%} of the keys, {counts}" if one["share"] else "scored and not served"
    return f"{one['version']}, {one['state']}, {served}; since {one['since']}, by {one['actor']}: {one['reason']}"


def lines_compared(duel: Duel, first: int | None, alpha: float) -> Shown:
    """Show both models' losses, the evidence, and the slices."""
    one, other, whole = model_name(first), model_name(duel.comparison.rival), duel.whole()
    evidence = duel.comparison.evidence()
    told = {"first": one, "second": other, "alpha": alpha, "whole": whole, "evidence": evidence}
    slices = duel.slices()
    told |= {"slices": [{"field": field, "value": value, "losses": part} for (field, value), part in slices.items()]}
    if not whole.examples:
        return [f"no labelled row was answered by both {one} and {other}"], told
    head = ("", "examples", one, other, "online", "served", f"{one} better by")
    rows = [_row("all", whole), *(_row(f"{field}={value}", part) for (field, value), part in slices.items())]
    return [*_table([head, *rows]), _verdict(duel, one, other, alpha)], told


def _row(name: str, part: Part) -> tuple[str, ...]:
    losses = (f"{loss:.4f}" for loss in (part.first, part.second, part.online, part.served))
    return name, str(part.examples), *losses, f"{part.second - part.first:+.4f}"


def _verdict(duel: Duel, one: str, other: str, alpha: float) -> str:
    better, worse = duel.comparison.better, duel.comparison.worse
    shown = "neither is shown to be better than the other"
    if better.shown is not None or worse.shown is not None:
        shown = f"{one} is shown to be {'better' if better.log_wealth > worse.log_wealth else 'worse'}"
    low, high = better.interval(alpha)
    odds = math.exp(min(max(better.log_wealth, worse.log_wealth), 50))
    return (
        f"{shown} (odds of {odds:.3g} to 1; {1 / alpha:.0f} are enough): {one} is better than {other} by"
        f" {better.mean:+.4f} nats an example, {low:+.4f} to {high:+.4f} at {1 - alpha:.0%}"
    )


def _when(time_ms: int) -> str:
    """Return a broker's time in this machine's zone."""
    return dt.datetime.fromtimestamp(time_ms / 1000).astimezone().isoformat(" ", "seconds")


def _table(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
