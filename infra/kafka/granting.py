"""Has a cluster know the users of a stream and their rules, through its admin interface."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from infra.kafka.acls import Rule
from services.runtime.clients import client
from services.runtime.credentials import MECHANISM
from services.runtime.errors import Stop
from services.runtime.secret import Secret
from services.runtime.settings import Settings

ITERATIONS = 8192  # Kafka's least for a user is 4096
ANSWER_S = 30
_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Delete": AclOperation.DELETE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}
_LACKING = {
    KafkaError.SECURITY_DISABLED: "the cluster has no authorizer, so it would not keep to any rule: set"
    " authorizer.class.name to org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "this user may not: log in as one of the cluster's super.users",
}
Answer = TypeVar("Answer")


def grant(settings: Settings, wanted: Sequence[Rule]) -> int:
    """Create those rules that are not there yet; return how many. Stop says why it can't be done."""
    with AdminClient(client(settings)) as admin:
        there = _there(admin)
        missing = [rule for rule in map(_binding, wanted) if rule not in there]
        for future in admin.create_acls(missing, request_timeout=ANSWER_S).values() if missing else ():
            _answer(future)
    return len(missing)


def beyond(settings: Settings, wanted: Sequence[Rule]) -> list[str]:
    """Return what the users of these rules may do that no rule says, a line each."""
    users = {f"User:{rule.user}" for rule in wanted}
    with AdminClient(client(settings)) as admin:
        there = [rule for rule in _there(admin) if rule.principal in users or rule.principal == "User:*"]
    return sorted(map(_text, set(there) - set(map(_binding, wanted))))


def create_users(settings: Settings, passwords: Mapping[str, Secret]) -> None:
    """Create these users, or give them these passwords."""
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    made: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, how, word.reveal().encode()) for user, word in passwords.items()
    ]
    with AdminClient(client(settings)) as admin:
        for future in admin.alter_user_scram_credentials(made, request_timeout=ANSWER_S).values():
            _answer(future)


def password_files(folder: Path, users: Iterable[str]) -> dict[str, Path]:
    """Return a file for each user; one that is missing is made with a new password, for this user's eyes alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {user: folder / user for user in users}
    for file in files.values():
        if not file.exists():
            file.touch(0o600)
            file.write_text(secrets.token_urlsafe(24))
    return files


def _there(admin: AdminClient) -> set[Any]:
    anything: Any = None
    every = AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        anything,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    return set(_answer(admin.describe_acls(every, request_timeout=ANSWER_S)))


def _binding(rule: Rule) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if rule.prefix else ResourcePatternType.LITERAL
    operation = _OPERATIONS[rule.operation]
    where = _RESOURCES[rule.resource], rule.name, pattern
    return AclBinding(*where, f"User:{rule.user}", "*", operation, AclPermissionType.ALLOW)


def _text(found: Any) -> str:  # noqa: ANN401 - an AclBinding, whose parts are said to be what they may be made of
    what = f"{found.operation.name} {found.restype.name} {found.resource_pattern_type.name} {found.name}"
    return f"{found.permission_type.name} {found.principal} {what} from {found.host}"


def _answer(future: "Future[Answer]") -> Answer:
    try:
        return future.result()
    except KafkaException as error:
        said = error.args[0]
        told = _LACKING.get(said.code(), f"users log in by {MECHANISM}")
        raise Stop(f"the cluster did not take it: {said.str()}. {told}") from error
