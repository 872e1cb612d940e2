"""`thalweg acls`: what each service may do on the broker, as commands of Kafka's own, or applied at once."""

import argparse
import os
from typing import Any

from infra.kafka.acls import Rule, rules, user
from infra.kafka.granting import beyond, grant
from infra.local import access
from services.runtime.credentials import MECHANISM
from services.runtime.settings import Settings

ABOUT = f"""\
Each service has a user of its own, STREAM.SERVICE, that may do what `infra/kafka/acls.toml` says and nothing else;
STREAM.operator is for people at the command line. Printed are lines for a shell with Kafka's own tools; --apply does
the same through the broker, as the user of THALWEG_BROKER_USER (one of its super.users), and says what these users may
do beyond it. Users log in by {MECHANISM}; kafka-configs.sh makes them, and `thalweg up --broker kafka --guarded`
shows all of it at work."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("acls", help="who may do what on the broker, as Kafka's rules", epilog=ABOUT)
    parser.add_argument("--stream", default="flights", metavar="S", help="whose topics (flights)")
    parser.add_argument("--service", metavar="NAME", help="the rules of this one alone")
    parser.add_argument("--broker", metavar="HOST:PORT", help="the broker (THALWEG_BROKER)")
    parser.add_argument("--command-config", metavar="FILE", help="is named in what is printed, for Kafka's own tools")
    parser.add_argument("--apply", action="store_true", help="have the broker know the rules, instead of printing them")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    broker = given.broker or os.environ.get(access.variable("broker")) or Settings().broker
    wanted = rules(given.stream)
    if given.service:
        wanted = [rule for rule in wanted if rule.user == user(given.stream, given.service)]
        if not wanted:
            raise ValueError(f"--service {given.service}: no such entry in infra/kafka/acls.toml")
    if given.apply:
        return _apply(access.settings(broker, access.from_environment(os.environ)), wanted)
    more = ["--command-config", given.command_config] if given.command_config else []
    print("\n".join(rule.command(broker, *more) for rule in wanted))
    return 0


def _apply(settings: Settings, wanted: list[Rule]) -> int:
    """Return 1 if these users may do more than they should."""
    created = grant(settings, wanted)
    print(f"{len(wanted)} rules for {len({rule.user for rule in wanted})} users; {created} of them are new")
    more = beyond(settings, wanted)
    for line in more:
        print(f"beyond the rules: {line}; remove it (kafka-acls.sh --remove) if nobody needs it")
    return 1 if more else 0
