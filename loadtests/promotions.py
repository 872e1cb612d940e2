"""How often a promotion is false, how soon a true one comes, and how soon a model that turned bad is rolled back.

    .venv/bin/python loadtests/promotions.py [--runs N] [--seed S]

Simulated examples, so that the truth is known; the program's own evidence, looked at after every example. An event has
a true log-odds, normal around -2.75 with a deviation of 3, so that a fifth of the labels are 1, as of flights. A model
answers the true log-odds plus noise of its own, independent of the other's, which makes the two differ more than models
trained on one stream do: the harder case. The champion's noise is such that it loses 0.29 nats, the challenger's such
that it loses 3 % less; both are found on a sample, and the losses are printed. In an A/A pair both are equally noisy.
Exit status 1 if a bar is missed; the same seed gives the same figures.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.rollout.evidence import Evidence, Watch, log_losses
from services.rollout.slices import Slices

Array: TypeAlias = NDArray[np.float64]
Draw: TypeAlias = Callable[[np.random.Generator, int], Array]  # so many differences, champion's loss - challenger's
ALPHA = 0.05
APART = 1e6  # examples between false rollbacks, at least, on average
EXAMPLES = 20_000
LOOK = 1000  # the interval is looked at after so many examples
CARRIERS = [f"{place:X}" for place in range(16)]  # each a sixteenth of the events; the last one's slice is ruined
GOOD, BAD, BAR = 50_000, 2000, 1000  # examples before the flip, after it, and within which it must be found
TURNS = {  # how the predecessor answers while labels are flipped: 1 as before, -1 when it has come round to them
    "its predecessor learns it within 500": 1 - 2 * np.minimum(np.arange(BAD) / 500, 1),
    "its predecessor is right from the first on": -np.ones(BAD),
}
CHAMPION = 0.29
CHALLENGER = 0.97 * CHAMPION


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="A/A pairs of each kind; a fifth for all else")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    old, new = noise_of(CHAMPION), noise_of(CHALLENGER)
    print(f"who knew the truth would lose {loss(0):.4f} nats; champion {loss(old):.4f} (its noise {old:.3f}),")
    print(f"  challenger {loss(new):.4f} (its noise {new:.3f}), {1 - loss(new) / loss(old):.1%} better")
    few = max(given.runs // 5, 1)
    met = [
        *(false_promotions(name, draw, given.runs, given.seed) for name, draw in equals(old).items()),
        power(old, new, few, given.seed),
        false_names(old, few, given.seed),
        ruins("a challenger 3 % better elsewhere", (old, new, 0.05), few, given.seed),
        ruins("one 5 % better elsewhere", (old, 0.3, 0.07), few, given.seed),
        *rollbacks(old, new, few, given.seed),
    ]
    print("every bar is met" if all(met) else "a bar is missed")
    sys.exit(not all(met))


# Models and their labels


def truth(rng: np.random.Generator, count: int) -> Array:
    return rng.normal(-2.75, 3, count)


def chance(odds: Array) -> Array:
    """Return probabilities from log-odds."""
    return np.asarray((1 + np.tanh(odds / 2)) / 2)


def noise_of(wanted: float) -> float:
    """Return the deviation of the noise with which a model loses so many nats, by bisection."""
    low, high = 0.0, 4.0
    while high - low > 1e-9:  # noqa: PLR2004 - nobody sees a smaller difference
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) < wanted else (low, middle)
    return low


def loss(noise: float) -> float:
    """Return what a model with this noise loses, expected over the labels of a sample of events."""
    rng = np.random.default_rng(0)
    odds = truth(rng, 400_000)
    answers, true = chance(odds + rng.normal(0, 1, len(odds)) * noise), chance(odds)
    ones, zeros = (log_losses(answers, np.full(len(odds), label)) for label in (1, 0))
    return float((true * ones + (1 - true) * zeros).mean())


def pair(rng: np.random.Generator, count: int, old: float, new: float) -> Array:
    odds = truth(rng, count)
    labels = rng.random(count) < chance(odds)
    return apart(labels, *(odds + rng.normal(0, noise, count) for noise in (old, new)))


def apart(labels: NDArray[np.bool_], old: Array, new: Array) -> Array:
    """Return how much less the new model loses, from the labels and both models' log-odds."""
    return log_losses(chance(old), labels) - log_losses(chance(new), labels)


# A/A pairs


def equals(noise: float) -> dict[str, Draw]:
    return {
        "equal noise": lambda rng, count: pair(rng, count, noise, noise),
        "equal heavy-tailed noise (Cauchy)": heavy,
        "0.009 nats better, but 4.5 worse once in 500": rare,
    }


def heavy(rng: np.random.Generator, count: int) -> Array:
    odds = truth(rng, count)
    labels = rng.random(count) < chance(odds)
    return apart(labels, *(odds + 0.3 * rng.standard_cauchy(count) for _ in range(2)))


def rare(rng: np.random.Generator, count: int) -> Array:
    """Return a fair game that is won nearly always, which misleads a test that trusts the variance seen so far."""
    return np.where(rng.random(count) < 1 / 500, -4.5, 4.5 / 499)


def false_promotions(name: str, draw: Draw, runs: int, seed: int) -> bool:
    promoted = sum(shown(draw(np.random.default_rng([seed, run]), EXAMPLES)) is not None for run in range(runs))
    met = promoted <= ALPHA * runs and shown(np.zeros(EXAMPLES)) is None
    print(f"A/A, {name}: {promoted} of {runs} promoted within {EXAMPLES:,} examples {bar(f'{ALPHA:.0%}', met=met)}")
    return met


def shown(differences: Array) -> int | None:
    evidence = Evidence(ALPHA)
    evidence.fold(differences)
    return evidence.shown


def bar(text: str, *, met: bool) -> str:
    return f"(bar: {text}{'' if met else ', MISSED'})"


# A better challenger


def power(old: float, new: float, runs: int, seed: int) -> bool:
    """Promote a challenger that is better, and hold its interval against the truth after every 1,000 examples."""
    better = loss(old) - loss(new)
    found, outside = list[float](), 0
    for run in range(runs):
        evidence = Evidence(ALPHA)
        differences = pair(np.random.default_rng([seed, run]), EXAMPLES, old, new)
        intervals = [interval(evidence, differences[first : first + LOOK]) for first in range(0, EXAMPLES, LOOK)]
        outside += not all(low <= better <= high for low, high in intervals)
        found.append(evidence.shown or math.inf)
    low, high = intervals[-1]
    promoted = sum(number < math.inf for number in found)
    met = promoted >= 0.9 * runs and outside <= ALPHA * runs
    print(
        f"3 % better: {promoted} of {runs} promoted within {EXAMPLES:,} examples {bar('90 %', met=met)}; after "
        f"{statistics.median(found):,.0f} in the median, {sorted(found)[int(0.9 * runs)]:,.0f} for nine in ten"
    )
    print(f"  the truth, {better:.4f} nats, was outside the interval in {outside} of {runs} runs")
    print(f"  what a person sees, last run: better by {low:.4f} to {high:.4f} nats")
    return met


def interval(evidence: Evidence, differences: Array) -> tuple[float, float]:
    evidence.fold(differences)
    return evidence.interval(ALPHA)


# Slices


def false_names(noise: float, runs: int, seed: int) -> bool:
    """Count A/A pairs of which a slice is named."""
    found = 0
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        slices = Slices(["carrier"], ALPHA, len(CARRIERS))
        slices.fold(pair(rng, EXAMPLES, noise, noise), {"carrier": rng.choice(CARRIERS, EXAMPLES).tolist()})
        found += bool(slices.worse())
    met = found <= ALPHA * runs
    print(f"{len(CARRIERS)} slices, equal noise: one is named in {found} of {runs} {bar(f'{ALPHA:.0%}', met=met)}")
    return met


def ruins(name: str, models: tuple[float, float, float], runs: int, seed: int) -> bool:
    """Let a challenger win on average and ruin a slice: it is to be held back, or rolled back later, the slice named.

    `models` are both noises, and the part of its answers in that slice that are turned.
    """
    held = later = 0
    means = list[tuple[float, float]]()
    for run in range(runs):
        differences, carriers = ruined(np.random.default_rng([seed, run]), *models)
        means.append((differences.mean(), differences[carriers == CARRIERS[-1]].mean()))
        before = named(differences, carriers, shown(differences) or EXAMPLES)
        held += before
        later += not before and named(differences, carriers, EXAMPLES)
    met = held + later >= 0.9 * runs
    overall, there = np.mean(means, axis=0)
    print(f"{name}, {overall:+.3f} nats over all, {there:+.2f} in one of {len(CARRIERS)} slices: {held} of {runs} held")
    print(f"  back, {later} promoted before and the slice named within {EXAMPLES:,} examples {bar('90 %', met=met)}")
    return met


def ruined(rng: np.random.Generator, old: float, new: float, part: float) -> tuple[Array, NDArray[np.str_]]:
    """Return differences and carriers; of the last carrier's answers a part are turned."""
    odds, carriers = truth(rng, EXAMPLES), rng.choice(CARRIERS, EXAMPLES)
    labels = rng.random(EXAMPLES) < chance(odds)
    turned = (carriers == CARRIERS[-1]) & (rng.random(EXAMPLES) < part)
    answers = np.where(turned, -odds, odds) + rng.normal(0, new, EXAMPLES)
    return apart(labels, odds + rng.normal(0, old, EXAMPLES), answers), carriers


def named(differences: Array, carriers: NDArray[np.str_], until: int) -> bool:
    """Say whether the ruined slice, and no other, is named by then."""
    slices = Slices(["carrier"], ALPHA, len(CARRIERS))
    slices.fold(differences[:until], {"carrier": carriers[:until].tolist()})
    return [worse.value for worse in slices.worse()] == CARRIERS[-1:]


# A model that turned bad


def rollbacks(old: float, new: float, runs: int, seed: int) -> list[bool]:
    """Watch over long good times, then flip the labels after those of a better model."""
    better = [watched(pair(np.random.default_rng([seed, run]), GOOD, old, new)) for run in range(runs)]
    equal = [watched(pair(np.random.default_rng([seed, run]), GOOD, old, old)) for run in range(runs)]
    met = [false_rollbacks("3 % better", better), false_rollbacks("equal", equal)]
    for name, turn in TURNS.items():
        bad = [flipped(np.random.default_rng([seed, run, 1]), old, new, turn) for run in range(runs)]
        met.append(turned(name, [alarm_after(watch, then) for watch, then in zip(better, bad, strict=True)]))
    same = [flipped(np.random.default_rng([seed, run, 1]), old, new, np.ones(BAD)) for run in range(runs)]
    none = sum(alarm_after(watch, then) == math.inf for watch, then in zip(better, same, strict=True))
    print(f"{BAD:,} flipped, nobody learns: {none} of {runs} not rolled back, as the predecessor is no better then")
    return met


def watched(differences: Array) -> Watch:
    watch = Watch(APART)
    watch.fold(differences)
    return watch


def false_rollbacks(name: str, watches: list[Watch]) -> bool:
    """Count alarms of models that were no worse than their predecessors."""
    false = sum(watch.alarm is not None for watch in watches)
    met = false <= len(watches) * GOOD / APART
    rule = bar(f"{GOOD / APART:.0%}, of 1 in {APART:,.0f} examples", met=met)
    print(f"{GOOD:,} examples after a promotion, {name}: {false} of {len(watches)} rolled back {rule}")
    return met


def flipped(rng: np.random.Generator, old: float, new: float, turn: Array) -> Array:
    """Return the differences while labels are flipped; `turn` is by how much the old model's log-odds followed."""
    odds = truth(rng, BAD)
    labels = rng.random(BAD) >= chance(odds)
    return apart(labels, turn * odds + rng.normal(0, old, BAD), odds + rng.normal(0, new, BAD))


def alarm_after(watch: Watch, bad: Array) -> float:
    """Return how many bad examples it took a watch that goes on from here; infinity if there was no alarm."""
    heir = Watch(APART)
    heir.load(watch.state())
    heir.fold(bad)
    return math.inf if heir.alarm is None else heir.alarm - watch.examples


def turned(name: str, took: list[float]) -> bool:
    """Print how soon the alarms came; one in the good time before is no answer, and misses the bar."""
    met = all(0 < number <= BAR for number in took)
    rule = bar(f"{BAR:,}", met=met)
    middle, worst = statistics.median(took), max(took)
    print(f"{BAD:,} flipped, {name}: after {middle:,.0f} in the median, {worst:,.0f} at worst {rule}")
    return met


if __name__ == "__main__":
    main()
