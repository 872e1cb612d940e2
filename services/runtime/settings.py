"""Settings: one frozen object per service, read from the environment.

A field `broker` that every service has is `THALWEG_BROKER`; a field `port` that only `ingestion` has is
`THALWEG_INGESTION_PORT`. Locally none is needed. A variable with our prefix that nobody reads is an error, since it
is a typing mistake more often than not. Secrets are `Secret` and never show in a `repr`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, TypeAlias

import msgspec

from services.runtime.errors import ConfigError
from services.runtime.secret import Secret

PREFIX = "THALWEG_"
SERVICES = Path(__file__).parents[1]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Rate: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1000)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service reads. Times are in seconds."""

    stream: str = "flights"
    instance: str = "1"  # which of a service's processes this is: no two that run may have the same
    schemas: Path = SERVICES.parent / "schemas"
    broker: str = "127.0.0.1:9092"
    broker_ca: str = ""  # the PEM file of the authority whose word for the brokers counts; set: TLS
    broker_user: str = ""  # set: SASL, by SCRAM-SHA-512
    broker_password: Secret = Secret()
    broker_password_file: str = ""  # or the file that holds it; it is read again for each new client
    ingestion_ca: str = (
        ""  # of the authority behind ingestion's certificate, for who asks it; empty: this machine's own
    )
    data: Path = SERVICES.parent / ".run"  # snapshots, artifacts, keys
    snapshots: str = ""  # a folder or an fsspec URL, such as s3://bucket/prefix; empty: `<data>/state`
    batch: Count = 2000  # records that one transaction may hold
    poll_s: Seconds = 0.2  # how long an idle loop waits before it looks at its other duties
    fetch_wait_ms: Count = 20  # how long the broker may hold back an empty answer
    session_timeout_ms: Count = 6000
    snapshot_every_s: Seconds = 10.0
    health_host: str = "127.0.0.1"
    health_port: Port = 0  # where /healthz, /readyz and /metrics answer; 0: nowhere
    log: str = "text"  # how log lines look, "text" or "json"; `logs.py` reads it before the others are read
    otlp: str = ""  # where spans go, the base URL of an OTLP/HTTP receiver; empty: nothing is traced
    trace_rate: Rate = 10.0  # traces begun a second
    trace_keys: str = ""  # keys of which every event is traced, joined by commas
    trace_slow_s: Seconds = 2.0  # what takes longer is traced in any case

    @classmethod
    def load(cls, service: str, environment: Mapping[str, str]) -> Self:
        """Read and check them; raise ConfigError for a value of the wrong kind and for a variable that nobody reads."""
        shared = {f"{PREFIX}{name}".upper(): name for name in Settings.__struct_fields__}
        own = {f"{PREFIX}{service}_{n}".upper(): n for n in cls.__struct_fields__ if n not in shared.values()}
        known = shared | own
        _refuse_unknown(service, known, environment)
        found = {name: environment[variable] for variable, name in known.items() if variable in environment}
        _refuse_empty(service, known, environment)
        try:
            return msgspec.convert(found, cls, strict=False, dec_hook=lambda kind, value: kind(value))
        except msgspec.ValidationError as error:
            named = re.sub(r"\$\.(\w+)", lambda found: _variable(known, found[1]), str(error))
            raise ConfigError(f"environment of {service}: {named}") from error


def _variable(known: Mapping[str, str], field: str) -> str:
    return next(variable for variable, name in known.items() if name == field)


def _refuse_empty(service: str, known: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Refuse what is set to nothing: as a path it would be the current folder."""
    if empty := sorted(variable for variable in known if environment.get(variable) == ""):
        raise ConfigError(f"environment of {service}: {', '.join(empty)}: found nothing; unset it to have the default")


def _refuse_unknown(service: str, known: Mapping[str, str], environment: Mapping[str, str]) -> None:
    others = tuple(
        f"{PREFIX}{folder.name}_".upper() for folder in SERVICES.iterdir() if folder.is_dir() and folder.name != service
    )
    ours = (name for name in environment if name.startswith(PREFIX) and not name.startswith(others))
    if unknown := sorted(set(ours) - set(known)):
        raise ConfigError(f"{', '.join(unknown)}: no such setting. {service} knows {', '.join(sorted(known))}")
