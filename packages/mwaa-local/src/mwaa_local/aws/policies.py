"""Decides by IAM policies, as AWS documents it: an explicit deny first, then an allow, else denied.

Of conditions it knows the operators below; a statement with another one is an error, never passed over.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import ast
import fnmatch
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

Statement = dict[str, Any]


class UndecidedError(Exception):
    """A policy says something that this evaluator does not know. Its text names it."""


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Args:
        arn: as AWS shows it in a message: a session of a role, a service, a federated identity.
        account: its account's id; empty for a service or a federated identity.
        names: what a policy's Principal may call it, such as {("AWS", <arn of the role>)}.
    """

    arn: str
    account: str
    names: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Right:
    """What a request needs: an action on a resource, and what conditions can be about."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def statements(document: str | Mapping[str, Any] | None) -> list[Statement]:
    """The statements of a policy; of none, for None.

    moto keeps the policies of a stack's role as Python writes them, with None for AWS::NoValue.
    """
    if not document:
        return []
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            document = ast.literal_eval(str(document))
    found = document["Statement"]  # type: ignore[index]
    return [each for each in (found if isinstance(found, list) else [found]) if each]


def applies(statement: Statement, right: Right) -> bool:
    """Whether action, resource and conditions of a statement fit; whose it is, the caller knows."""
    if not _fits(statement, "Action", right.action.lower(), str.lower):
        return False
    # A trust policy names no resource: it is about its own role.
    if {"Resource", "NotResource"} & set(statement) and not _fits(statement, "Resource", right.resource):
        return False
    return all(
        _holds(operator, key, _listed(wanted), right.context)
        for operator, keys in (statement.get("Condition") or {}).items()
        for key, wanted in keys.items()
    )


def names(statement: Statement, principal: Principal) -> str:
    """How a resource's policy names the principal: `itself`, by its `account`, or not at all (empty)."""
    if "NotPrincipal" in statement:
        raise UndecidedError("NotPrincipal")
    wanted = statement["Principal"]
    if wanted == "*":
        return "itself"
    for kind, values in wanted.items():
        for value in _listed(values):
            if (kind, value) in principal.names or (kind, value) == ("AWS", "*"):
                return "itself"
            if principal.account and value in (principal.account, f"arn:aws:iam::{principal.account}:root"):
                return "account"
    return ""


def why_denied(
    principal: Principal,
    right: Right,
    identity: Iterable[Statement],
    resource: Iterable[Statement] | None,
    owner: str,
) -> str:
    """Why the principal may not; empty if it may.

    Args:
        principal: who asks.
        right: what for.
        identity: the statements of its role.
        resource: those of the resource's own policy; None if it has none.
        owner: the account of the resource.

    Raises:
        UndecidedError: a policy says what this evaluator does not know.
    """
    by_identity = {each["Effect"] for each in identity if applies(each, right)}
    by_resource = {
        (each["Effect"], how) for each in resource or () if (how := names(each, principal)) and applies(each, right)
    }
    if "Deny" in by_identity:
        return "with an explicit deny in an identity-based policy"
    if "Deny" in {effect for effect, _ in by_resource}:
        return "with an explicit deny in a resource-based policy"
    if not principal.account:
        return "" if by_resource else f"because no resource-based policy allows the {right.action} action"
    # The policy of a key and that of a role decide alone; where they name the account, it may pass the right on by IAM.
    alone = right.action.startswith("kms:") or right.action.startswith("sts:AssumeRole")
    if ("Allow", "itself") in by_resource and principal.account == owner:
        return ""
    if ((alone and resource is not None) or principal.account != owner) and not by_resource:
        return f"because no resource-based policy allows the {right.action} action"
    return "" if "Allow" in by_identity else f"because no identity-based policy allows the {right.action} action"


def _fits(statement: Statement, element: str, value: str, fold: Callable[[str], str] = str) -> bool:
    found = any(_pattern(fold(each)).match(value) for each in _listed(statement.get(element, ())))
    return found or (
        f"Not{element}" in statement
        and not any(_pattern(fold(each)).match(value) for each in _listed(statement[f"Not{element}"]))
    )


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    # Only * and ? are wild; fnmatch would take [ as well.
    return re.compile(fnmatch.translate(text.replace("[", "[[]")))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, actual: wanted == actual,
    "StringEqualsIgnoreCase": lambda wanted, actual: wanted.lower() == actual.lower(),
    "StringLike": lambda wanted, actual: bool(_pattern(wanted).match(actual)),
    "ArnEquals": lambda wanted, actual: bool(_pattern(wanted).match(actual)),
    "ArnLike": lambda wanted, actual: bool(_pattern(wanted).match(actual)),
    "Bool": lambda wanted, actual: wanted.lower() == actual.lower(),
    "IpAddress": lambda wanted, actual: ipaddress.ip_address(actual) in ipaddress.ip_network(wanted),
}


def _holds(operator: str, key: str, wanted: list[Any], context: Mapping[str, str]) -> bool:
    actual = next((value for name, value in context.items() if name.lower() == key.lower()), None)
    if operator == "Null":
        return any((str(each).lower() == "true") == (actual is None) for each in wanted)
    name = operator.removesuffix("IfExists")
    negated = name.replace("Not", "", 1)
    compare = _OPERATORS.get(negated)
    if compare is None:
        raise UndecidedError(f"the condition {operator}")
    if actual is None:
        # A key that the request lacks: only the negated operators, and those with IfExists, hold.
        return operator != name or negated != name
    values = [str(each).lower() if isinstance(each, bool) else str(each) for each in wanted]
    return any(compare(each, actual) for each in values) != (negated != name)
