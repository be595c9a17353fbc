"""Evaluates IAM policies: an explicit deny wins, then an allow; without either the request is denied.

A condition with an operator that is not listed below is an error.
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
    """This module cannot evaluate a policy. The text names the unknown element."""


@dataclass(frozen=True)
class Principal:
    """The caller.

    Args:
        arn: of a role's session, a service or a federated identity, as in AWS's messages.
        account: its account's id; empty for a service or a federated identity.
        names: its names in a policy's Principal, such as {("AWS", <arn of the role>)}.
    """

    arn: str
    account: str
    names: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Right:
    """The permission that a request needs: an action, a resource, and the condition keys of the request."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def statements(document: str | Mapping[str, Any] | None) -> list[Statement]:
    """Return the statements of a policy document.

    moto stores the policies of a stack's role as Python literals, with None for AWS::NoValue.
    """
    if not document:
        return []
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            document = ast.literal_eval(str(document))
    return [statement for statement in _listed(document["Statement"]) if statement]  # type: ignore[index]


def applies(statement: Statement, right: Right) -> bool:
    """Whether a statement's action, resource and conditions match. The caller checks the principal."""
    if not _fits(statement, "Action", right.action.lower(), str.lower):
        return False
    # A trust policy has no resource, because it applies to its role.
    if {"Resource", "NotResource"} & set(statement) and not _fits(statement, "Resource", right.resource):
        return False
    return all(
        _holds(operator, key, _listed(values), right.context)
        for operator, keys in (statement.get("Condition") or {}).items()
        for key, values in keys.items()
    )


def names(statement: Statement, principal: Principal) -> str:
    """Return how a statement names the principal: `itself`, its `account`, or an empty string for neither."""
    if "NotPrincipal" in statement:
        raise UndecidedError("NotPrincipal")
    principals = statement["Principal"]
    if principals == "*":
        return "itself"
    for kind, values in principals.items():
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
    """Return why the principal is denied, or an empty string if it is allowed.

    Args:
        principal: the caller.
        right: the permission that the call needs.
        identity: the statements of the caller's role.
        resource: the statements of the resource's policy; None without a policy.
        owner: the account of the resource.

    Raises:
        UndecidedError: a policy contains an element that this module does not know.
    """
    by_identity = {statement["Effect"] for statement in identity if applies(statement, right)}
    by_resource = {
        (statement["Effect"], named_as)
        for statement in resource or ()
        if (named_as := names(statement, principal)) and applies(statement, right)
    }
    if "Deny" in by_identity:
        return "with an explicit deny in an identity-based policy"
    if "Deny" in {effect for effect, _ in by_resource}:
        return "with an explicit deny in a resource-based policy"
    if not principal.account:
        return "" if by_resource else f"because no resource-based policy allows the {right.action} action"
    # Only the policy of a key or role gives access to it. If that policy names the account, IAM policies count too.
    needs_resource_policy = right.action.startswith("kms:") or right.action.startswith("sts:AssumeRole")
    if ("Allow", "itself") in by_resource and principal.account == owner:
        return ""
    if ((needs_resource_policy and resource is not None) or principal.account != owner) and not by_resource:
        return f"because no resource-based policy allows the {right.action} action"
    return "" if "Allow" in by_identity else f"because no identity-based policy allows the {right.action} action"


def _fits(statement: Statement, element: str, value: str, fold: Callable[[str], str] = str) -> bool:
    def matches(patterns: Any) -> bool:
        return any(_pattern(fold(pattern)).match(value) for pattern in _listed(patterns))

    negated = f"Not{element}"
    return matches(statement.get(element, ())) or (negated in statement and not matches(statement[negated]))


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    # Only * and ? are wildcards in IAM; fnmatch also knows [.
    return re.compile(fnmatch.translate(text.replace("[", "[[]")))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda expected, actual: expected == actual,
    "StringEqualsIgnoreCase": lambda expected, actual: expected.lower() == actual.lower(),
    "StringLike": lambda expected, actual: bool(_pattern(expected).match(actual)),
    "ArnEquals": lambda expected, actual: bool(_pattern(expected).match(actual)),
    "ArnLike": lambda expected, actual: bool(_pattern(expected).match(actual)),
    "Bool": lambda expected, actual: expected.lower() == actual.lower(),
    "IpAddress": lambda expected, actual: ipaddress.ip_address(actual) in ipaddress.ip_network(expected),
}


def _holds(operator: str, key: str, expected: list[Any], context: Mapping[str, str]) -> bool:
    actual = next((value for name, value in context.items() if name.lower() == key.lower()), None)
    if operator == "Null":
        return any((str(value).lower() == "true") == (actual is None) for value in expected)
    name = operator.removesuffix("IfExists")
    negated = name.replace("Not", "", 1)
    compare = _OPERATORS.get(negated)
    if compare is None:
        raise UndecidedError(f"the condition {operator}")
    if actual is None:
        # If the request lacks the key, only negated operators and those with IfExists hold.
        return operator != name or negated != name
    values = [str(value).lower() if isinstance(value, bool) else str(value) for value in expected]
    return any(compare(value, actual) for value in values) != (negated != name)
