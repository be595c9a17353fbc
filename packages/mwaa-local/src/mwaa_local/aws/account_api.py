"""Answers calls of IAM and SNS that moto lacks or answers differently from AWS.

SimulatePrincipalPolicy evaluates the policies of a role like a call of that role. It ignores the policies of the
resources.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html

ListSubscriptionsByTopic shows email subscriptions as pending, because nobody confirms them here.
https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html
"""

import re
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

from moto.backends import get_backend
from werkzeug.wrappers import Request, Response

from mwaa_local.aws import calls, rights
from mwaa_local.aws.access import identity_statements
from mwaa_local.aws.calls import Call
from mwaa_local.settings import ACCOUNT_ID
from mwaa_release.policies import Principal, Right, why_denied

# Subscriptions of queues and functions in the same account need no confirmation.
_CONFIRMED_PROTOCOLS = ("sqs", "lambda")


def answer(request: Request, service: str, region: str) -> Response | None:
    """Return the answer to a call of this module, or None for moto's."""
    if service not in ("iam", "sns"):
        return None
    call = calls.read(request, service, region)
    perform = _CALLS.get(f"{service}:{call.operation}")
    return perform(call) if perform else None


def _simulate_principal_policy(call: Call) -> Response:
    arn = call.parameters["PolicySourceArn"]
    role = rights.role(arn)
    if role is None:
        return _error("NoSuchEntity", f"The role {arn} cannot be found.", 404)
    actions, resources = _listed(call, "ActionNames"), _listed(call, "ResourceArns") or ["*"]
    if invalid := [action for action in actions if not re.fullmatch(r"[\w-]+:\w+", action)]:
        return _error("InvalidInput", f"Invalid Action Names: {', '.join(invalid)}", 400)
    names, values = (
        _listed(call, "ContextEntries", ".ContextKeyName"),
        _listed(call, "ContextEntries", ".ContextKeyValues.member.1"),
    )
    context = dict(zip(names, values, strict=True))
    principal = Principal(arn, ACCOUNT_ID, frozenset({("AWS", arn)}))
    results = []
    for action in actions:
        for resource in resources:
            right = Right(action, resource, context)
            why = why_denied(principal, right, identity_statements(role), None, ACCOUNT_ID)
            decision = "explicitDeny" if "explicit deny" in why else "implicitDeny" if why else "allowed"
            results.append({"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision})
    return _result(call, "EvaluationResults", results, "<IsTruncated>false</IsTruncated>")


def _list_subscriptions_by_topic(call: Call) -> Response:
    topic = call.parameters["TopicArn"]
    backend = get_backend("sns")[topic.split(":")[4]][call.region]
    if topic not in backend.topics:
        return _error("NotFound", "Topic does not exist", 404)
    subscriptions = [
        {
            "TopicArn": topic,
            "Protocol": subscription.protocol,
            "Endpoint": subscription.endpoint,
            "SubscriptionArn": subscription.arn
            if subscription.protocol in _CONFIRMED_PROTOCOLS
            else "PendingConfirmation",
        }
        for subscription in backend.subscriptions.values()
        if subscription.topic.arn == topic
    ]
    return _result(call, "Subscriptions", subscriptions)


_CALLS: dict[str, Callable[[Call], Response]] = {
    "iam:SimulatePrincipalPolicy": _simulate_principal_policy,
    "sns:ListSubscriptionsByTopic": _list_subscriptions_by_topic,
}


def _listed(call: Call, name: str, member: str = "") -> list[str]:
    """Return the values of a list in a form: `Name.member.1`, `Name.member.2`, …"""
    pattern = re.compile(rf"{name}\.member\.(\d+){re.escape(member)}")
    matches = ((pattern.fullmatch(key), value) for key, value in call.parameters.items())
    return [value for _, value in sorted((int(match[1]), value) for match, value in matches if match)]


def _result(call: Call, name: str, members: list[dict[str, Any]], more: str = "") -> Response:
    items = "".join(
        "<member>" + "".join(f"<{key}>{escape(value)}</{key}>" for key, value in member.items()) + "</member>"
        for member in members
    )
    kind = call.operation
    body = f"<{kind}Response><{kind}Result><{name}>{items}</{name}>{more}</{kind}Result></{kind}Response>"
    return Response(body, 200, {"Content-Type": "text/xml"})


def _error(code: str, message: str, status: int) -> Response:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Response(f"<ErrorResponse>{error}</ErrorResponse>", status, {"Content-Type": "text/xml"})
