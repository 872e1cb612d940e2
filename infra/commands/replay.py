"""`thalweg replay`: what is downstream of `events`, folded again: compared by digest, or built anew under a prefix."""

import argparse
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from infra.commands.connection import Progress, add_log, add_span, connect, span
from infra.local import brokers
from infra.local.brokers import TopicSpec
from services.replay.digests import digests
from services.replay.rebuild import KINDS, Rebuild
from services.replay.scores import OneVersion, Recorded, Scores, trained_on
from services.replay.versions import Versions, version_number
from services.runtime.artifacts import Artifacts
from services.runtime.history import KafkaHistory
from services.runtime.settings import Settings
from services.runtime.stream import UNPARTITIONED, Stream
from services.runtime.transactions import Transactions

RECORDED = "recorded"
ABOUT = f"""\
Folds `events` and `labels` again, by the stream folder as it is now, into PREFIX.{", PREFIX.".join(KINDS)}: to
back-fill a feature that was added, or to ask what a version would have said (--scores online@7 --from … --to …).
--from and --to are event times: they bound what is written, not what is folded. Refused events are left out. Topics of
PREFIX must not hold anything yet; if this is stopped half-way, delete them and start again. Without --into nothing is
written: the digest of each partition's features is compared with that of what was written online, exit status 1 if one
differs. thalweg verify says where."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("replay", help="rebuild what is downstream of events under a prefix", epilog=ABOUT)
    add_log(parser)
    parser.add_argument(
        "--into", type=_prefix, metavar="PREFIX", help="where to: PREFIX.features and so on (only compare digests)"
    )
    parser.add_argument("--scores", default=RECORDED, metavar="recorded|online@N", help="whose scores (recorded)")
    parser.add_argument("--topics", type=_kinds, default=KINDS, metavar="T,…", help=f"which ({','.join(KINDS)})")
    add_span(parser, "write what is of events")
    parser.set_defaults(run=_run)


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, '.', '_' and '-', got {text!r}")
    return text


def _kinds(text: str) -> tuple[str, ...]:
    if strange := set(text.split(",")) - set(KINDS):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(KINDS)}, got {', '.join(sorted(strange))!r}")
    return tuple(text.split(","))


def _run(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    if given.into is None:
        return _compare(given, stream, settings)
    if given.into == stream.name:
        raise ValueError(f"--into {given.into} is the stream itself; name a fresh prefix")
    with closing(KafkaHistory(settings)) as history, closing(Progress()) as progress:
        kinds = _fitting(stream, history, given.scores, given.topics)
        scores = _scores(stream, settings, history, given.scores)
        writer = Transactions(settings, f"{given.into}.replay")
        _make_topics(settings, history, stream, given.into, kinds)
        rebuild = Rebuild(stream, given.into, scores, span(given), kinds)
        rebuild.run(history, writer.write, progress)
    _say(rebuild, given.into, kinds)
    return 0


def _compare(given: argparse.Namespace, stream: Stream, settings: Settings) -> int:
    if (given.scores, given.topics, given.start, given.end) != (RECORDED, KINDS, None, None):
        raise ValueError("--scores, --topics, --from and --to say what is written; name a prefix with --into")
    same = True
    with closing(KafkaHistory(settings)) as history:
        for one in digests(history, stream):
            same = same and one.same
            verdict = f"{one.replayed[:16]}: {'the same' if one.same else 'DIFFERENT'}"
            print(
                f"partition {one.partition}: {one.rows} rows of features, online {one.online[:16]}, replayed {verdict}"
            )
    return 0 if same else 1


def _fitting(stream: Stream, history: KafkaHistory, scores: str, kinds: Sequence[str]) -> Sequence[str]:
    """Return the kinds that can be told truly where the models learned other features than this folder's."""
    others = sorted(trained_on(history, stream) - {stream.feature_set})
    if not others:
        return kinds
    if scores != RECORDED:
        raise ValueError(
            f"{scores} learned {others[-1]}, this stream folder makes {stream.feature_set}. Score with the folder of"
            " then (--schemas), or keep --scores recorded to back-fill features and examples"
        )
    print(f"no predictions: they would name {stream.feature_set}, and models of {others[-1]} made their scores")
    return [kind for kind in kinds if kind != "predictions"]


def _scores(stream: Stream, settings: Settings, history: KafkaHistory, wanted: str) -> Scores:
    if wanted == RECORDED:
        return Recorded(stream, history)
    examples = stream.topic("examples")
    versions = Versions(stream, Artifacts(settings.data, stream.name), lambda: history.read_topic(examples))
    return OneVersion(versions, version_number(wanted))


def _make_topics(settings: Settings, history: KafkaHistory, stream: Stream, prefix: str, kinds: Sequence[str]) -> None:
    partitions = len(history.positions(stream.topic("events")))
    wanted = {f"{prefix}.{kind}": 1 if kind in UNPARTITIONED else partitions for kind in kinds}
    specs = {topic: TopicSpec(count) for topic, count in wanted.items()}
    brokers.create_topics(brokers.of(settings), specs)
    for topic, count in wanted.items():
        positions = history.positions(topic)
        if len(positions) != count or any(history.bounds(position)[1] for position in positions):
            raise ValueError(
                f"{topic} is there already and not empty, or not of {count} partitions; name a fresh --into"
            )


def _say(rebuild: Rebuild, prefix: str, kinds: Sequence[str]) -> None:
    counts = rebuild.counts
    waiting = counts["features"] - counts["scored"] if set(kinds) != {"features"} else 0
    print(
        f"{counts['features']} rows of features, {counts['scored']} scores, {counts['examples']} examples; into"
        f" {', '.join(f'{prefix}.{kind}' for kind in kinds)}"
    )
    if waiting:
        print(f"{waiting} rows have no recorded score yet")
    if counts["left out"]:
        print(f"{counts['left out']} records are in dead-letter and left out")
