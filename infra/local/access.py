"""How the launcher and commands get into a broker: settings by their own names, from the environment or from a run."""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from services.runtime.secret import Secret
from services.runtime.settings import PREFIX, Settings

Access: TypeAlias = Mapping[str, str | Secret]
NAMES = ("broker_ca", "broker_user", "broker_password", "broker_password_file")
PASSWORD = NAMES[2]


def variable(name: str) -> str:
    return f"{PREFIX}{name}".upper()


def from_environment(environment: Mapping[str, str]) -> Access:
    found = {name: environment[variable(name)] for name in NAMES if environment.get(variable(name))}
    return {name: Secret(value) if name == PASSWORD else value for name, value in found.items()}


def of_user(ca: object, user: str, file: object) -> Access:
    """Return the access of a user whose password is in a file."""
    return {"broker_ca": str(ca), "broker_user": user, "broker_password_file": str(file)}


def settings(broker: str, access: Access) -> Settings:
    """Return the settings of a client that has this access."""
    return msgspec.structs.replace(Settings(broker=broker), **access)


def to_environment(access: Access) -> dict[str, str]:
    """Return the variables of a service that has this access."""
    return {variable(name): value.reveal() if isinstance(value, Secret) else value for name, value in access.items()}


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what gets into a broker."""
    barred = {variable(name) for name in NAMES}
    return {name: value for name, value in environment.items() if name not in barred}


def to_leave(access: Access) -> dict[str, str]:
    """Return what a run may write down for other commands: never a password."""
    return {name: value for name, value in access.items() if not isinstance(value, Secret)}


def again(left: Mapping[str, str], environment: Mapping[str, str]) -> Access:
    """Return the access that a run has left; a password that was not to be written down is the environment's."""
    lacking = "broker_user" in left and "broker_password_file" not in left
    return {**left, **{k: v for k, v in from_environment(environment).items() if lacking and k == PASSWORD}}
