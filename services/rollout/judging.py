"""What a comparison has to say for a version to be promoted, and what makes it go. Pure."""

import math
from typing import NamedTuple, TypeAlias

from services.rollout.comparison import Comparison
from services.rollout.evidence import Evidence
from services.rollout.slices import Worse
from services.runtime.grammar import RolloutRule
from services.runtime.models import State


class Decision(NamedTuple):
    """A version shall go from a state to another. It holds only where that is still its state."""

    version: int
    before: State
    state: State
    reason: str
    evidence: dict[str, float]


Verdict: TypeAlias = tuple[State, str] | None  # where to, and why; None: it stays


def judge_challenger(rule: RolloutRule, state: State, comparison: Comparison) -> Verdict:
    """Judge a version that was never champion: on to the canary, to the championship, or out."""
    better, against = comparison.better, comparison.rival_name
    compared = f"{better.examples:,} examples"
    if named := comparison.slices.worse():
        return "retired", f"held back by {_named(named)}; overall it is {told(comparison, rule.alpha)}"
    if comparison.worse.holds:
        return "retired", f"shown to be {told(comparison, rule.alpha)}, {_odds(comparison.worse)}"
    if state == "shadow" and better.examples >= rule.shadow_examples:
        return "canary", f"nowhere shown to be worse than {against} on {compared} as a shadow"
    if not better.holds and better.examples >= rule.patience:
        return "retired", f"not shown to be better than {against} on {compared}: {told(comparison, rule.alpha)}"
    if state == "canary" and better.holds and comparison.canary >= rule.canary_examples:
        return "champion", f"shown to be {told(comparison, rule.alpha)}, {_odds(better)}"
    return None


def judge_champion(rule: RolloutRule, comparison: Comparison, *, settled: bool) -> Verdict:
    """Judge the champion by what came since its promotion; slices are its own matter once it has settled."""
    since = f"{comparison.watch.examples:,} examples after its promotion"
    if comparison.watch.alarm is not None:
        return "retired", f"turned worse, {since}; over all of them it is {told(comparison, rule.alpha)}"
    if comparison.baseline.alarm is not None:
        less = "much worse than guessing by how frequent the label is"
        return "retired", f"{less}, {since}; over all of them it is {told(comparison, rule.alpha)}"
    if not settled and (named := comparison.slices.worse()):
        return "retired", f"worse than {comparison.rival_name} for {_named(named)}, as seen {since}"
    return None


def told(comparison: Comparison, alpha: float) -> str:
    """Say by how much a version is better than its rival, or worse, and how sure that is."""
    better = comparison.better
    low, high = better.interval(alpha)
    word, least, most = ("better", low, high) if better.mean > 0 else ("worse", -high, -low)
    by = f"{abs(better.mean):.4f} nats an example ({least:.4f} to {most:.4f}, {better.examples:,} examples)"
    return f"{word} than {comparison.rival_name} by {by}"


def _odds(evidence: Evidence) -> str:
    return f"at odds of {math.exp(min(evidence.log_wealth, 50)):.0f} to 1"


def _named(slices: list[Worse]) -> str:
    return " and ".join(
        f"{one.field}={one.value} (worse by {one.mean:.4f} nats an example, {one.low:.4f} to {one.high:.4f},"
        f" {one.examples:,} examples)"
        for one in slices
    )
