"""Prepares a cluster for a stream: a user for each service and the operator, and the rules of `acls.toml`."""

from pathlib import Path

from infra.kafka.acls import grants, rules, user
from infra.kafka.granting import create_users, grant, password_files
from infra.local.access import Access, of_user
from services.runtime.secret import Secret
from services.runtime.settings import Settings


def prepare(admin: Settings, stream: str, folder: Path) -> dict[str, Access]:
    """Create users and rules as `admin`; return the access of each service. `folder` keeps a password in each file."""
    names = {service: user(stream, service) for service in grants()}
    files = password_files(folder, names.values())
    create_users(admin, {name: Secret(file.read_text()) for name, file in files.items()})
    grant(admin, rules(stream))
    return {service: of_user(admin.broker_ca, name, files[name]) for service, name in names.items()}
