"""Stands between a request and the service: whoever took a role has the rights of that role's policies, and no others.

The key `local`, which the commands of this folder use, is the account's administrator: policies do not bind it, except
that a role lets take it whom its trust policy names. A role that nobody made can be taken by the administrator alone,
and is then the administrator of its own account. All else is decided by the policies that IAM, the bucket, the key, the
secret, the function or the role holds. What is not decided here is denied, and the answer says so.
"""

import base64
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.backends import get_backend
from werkzeug.wrappers import Request, Response

from mwaa_local.aws import calls, rights
from mwaa_local.aws.policies import Principal, Right, Statement, UndecidedError, statements, why_denied
from mwaa_local.settings import ACCOUNT_ID, ADMINISTRATOR_KEY, REGION

_ADMINISTRATOR = Principal(
    f"arn:aws:iam::{ACCOUNT_ID}:user/administrator",
    ACCOUNT_ID,
    frozenset({("AWS", f"arn:aws:iam::{ACCOUNT_ID}:user/administrator")}),
)
_EVERYTHING: list[Statement] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
# Calls that nobody signs.
_UNSIGNED = "AssumeRoleWithWebIdentity"


@dataclass(frozen=True)
class Session:
    """Temporary credentials of a role, as STS gives them."""

    key: str
    secret: str
    token: str

    def environment(self) -> dict[str, str]:
        """The variables in which AWS's libraries look for them."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.token,
        }


class DeniedError(Exception):
    """A request is refused. Its text is what AWS tells the caller."""

    def __init__(self, message: str, code: str = "AccessDenied") -> None:
        super().__init__(message)
        self.code = code


def take_role(arn: str, service: str, context: Mapping[str, str], name: str) -> Session:
    """Give a service the role that it runs somebody's code with.

    Args:
        arn: the role.
        service: such as `lambda.amazonaws.com`.
        context: what the role's trust policy may ask for, such as `aws:SourceArn`.
        name: of the session.

    Raises:
        DeniedError: the role does not trust the service.
    """
    with _taking:
        _check(Principal(service, "", frozenset({("Service", service)})), [Right("sts:AssumeRole", arn, context)], [])
        sessions = get_backend("sts")[arn.split(":")[4]]["aws"]
        # One for all requests of a service, or thousands would be kept.
        for each in sessions.assumed_roles:
            if (each.role_arn, each.session_name) == (arn, name):
                return Session(each.access_key_id, each.secret_access_key, each.session_token)
        made = sessions.assume_role(REGION, name, arn, "", 3600, "")
        return Session(made.access_key_id, made.secret_access_key, made.session_token)


_taking = threading.Lock()
_allowed: set[tuple[str, str]] = set()
# Roles that the administrator has taken although nobody made them.
_strangers: set[str] = set()


def refusal(request: Request, service: str, region: str, settled: Mapping[str, Any]) -> Response | None:
    """The service's own answer to a request that is denied; None if it may go on.

    Args:
        request: the request.
        service: that it is signed for; empty if it is not signed.
        region: that it is signed for.
        settled: further parameters of the call, which the request itself does not say.
    """
    try:
        _decide(request, service, region, settled)
    except DeniedError as denied:
        return _answer(request, service or "sts", denied)
    except UndecidedError as error:
        text = f"not authorized: the AWS stand-in cannot decide by a policy with {error}"
        return _answer(request, service or "sts", DeniedError(text))
    except calls.UnknownCallError as error:
        text = f"not authorized: the AWS stand-in does not know which right this needs: {error}"
        return _answer(request, service or "sts", DeniedError(text))
    return None


def _decide(request: Request, service: str, region: str, settled: Mapping[str, Any]) -> None:
    authorization = request.headers.get("Authorization", "")
    if not authorization:
        _decide_unsigned(request, region)
        return
    key = authorization.partition("Credential=")[2].partition("/")[0]
    if key == ADMINISTRATOR_KEY:
        # Only who may take a role is asked, which no right of an administrator decides.
        if service == "sts" and (call := calls.read(request, service, region)).operation == "AssumeRole":
            arn = call.parameters.get("RoleArn", "")
            if rights.role(arn):
                _check_all(_ADMINISTRATOR, rights.rights(call, ACCOUNT_ID), _EVERYTHING)
            else:
                _strangers.add(arn)
        return
    session = _session(key, request.headers.get("X-Amz-Security-Token", ""), service)
    _check_signature(request, service, region, session)
    role = rights.role(session.role_arn)
    if role is None and session.role_arn in _strangers:
        return
    if role is None:
        raise DeniedError(f"User: {session.arn} is not authorized to do anything: its role was deleted")
    call = calls.read(request, service, region)
    call.parameters.update(settled)
    account = session.role_arn.split(":")[4]
    names = {("AWS", session.role_arn), ("AWS", session.arn)}
    policies = [*role.policies.values(), *_attached(role)]
    identity = [each for document in policies for each in statements(document)]
    if session.policy or role.permissions_boundary:
        raise UndecidedError("a session policy or a permissions boundary")
    _check_all(Principal(session.arn, account, frozenset(names)), rights.rights(call, account), identity)


def _decide_unsigned(request: Request, region: str) -> None:
    """A web identity's token stands in for a signature; moto's own pages are for this machine."""
    form = {name: values[0] for name, values in parse_qs(request.get_data(as_text=True)).items()}
    if form.get("Action") != _UNSIGNED:
        if request.path.startswith("/moto-api/"):
            return
        raise DeniedError("Request is missing Authentication Token", "MissingAuthenticationToken")
    arn, claims = form.get("RoleArn", ""), _claims(form.get("WebIdentityToken", ""))
    issuer = str(claims.get("iss", "")).removeprefix("https://")
    provider = f"arn:aws:iam::{(arn.split(':') + [''] * 5)[4]}:oidc-provider/{issuer}"
    context = {f"{issuer}:{name}": str(value) for name, value in claims.items()}
    principal = Principal(str(claims.get("sub")), "", frozenset({("Federated", provider)}))
    try:
        _check(principal, [Right(f"sts:{_UNSIGNED}", arn, context)], [])
    except DeniedError:
        # AWS says no more than this.
        raise DeniedError(f"Not authorized to perform sts:{_UNSIGNED}") from None


def _claims(token: str) -> dict[str, Any]:
    """What a token says; that GitHub has signed it is not looked at."""
    try:
        body = token.split(".")[1]
        return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
    except (IndexError, ValueError, TypeError):
        raise DeniedError("The ID Token provided is not a valid JWT", "InvalidIdentityToken") from None


def _check_all(principal: Principal, needed: rights.Rights, identity: list[Statement]) -> None:
    for alternatives in needed:
        _check(principal, alternatives, identity)


def _check(principal: Principal, alternatives: list[Right], identity: list[Statement]) -> None:
    """Let one of several rights do; log what is denied, and the first time that an action is allowed to somebody."""
    reasons = []
    for right in alternatives:
        policy, owner = rights.own_policy(right.resource)
        context = {
            # The stand-in's own address has no TLS; that of a service has nothing else.
            "aws:SecureTransport": "true",
            "aws:PrincipalArn": principal.arn,
            "aws:PrincipalAccount": principal.account,
            **right.context,
        }
        asked = Right(right.action, right.resource, context)
        if not (why := why_denied(principal, asked, identity, policy, owner or principal.account)):
            if (principal.arn, right.action) not in _allowed:
                _allowed.add((principal.arn, right.action))
                print(f"allowed: {principal.arn} {right.action} on {right.resource}", file=sys.stderr, flush=True)
            return
        reasons.append((right, why))
    right, why = reasons[0]
    message = f"User: {principal.arn} is not authorized to perform: {right.action} on resource: {right.resource} {why}"
    print(f"denied: {message}", file=sys.stderr, flush=True)
    raise DeniedError(message)


def _session(key: str, token: str, service: str) -> Any:
    # A copy: another thread may add an account.
    for account in list(get_backend("sts")):
        found = get_backend("sts")[account]["aws"].get_assumed_role_from_access_key(key)
        if found and found.session_token == token:
            return found
    message = "The security token included in the request is invalid"
    raise DeniedError(message, "InvalidAccessKeyId" if service == "s3" else "InvalidClientTokenId")


def _attached(role: Any) -> list[str]:
    versions = [version for policy in role.managed_policies.values() for version in policy.versions]
    return [each.document for each in versions if each.is_default]


def _check_signature(request: Request, service: str, region: str, session: Any) -> None:
    """Compare the signature with botocore's of the same request, so that no secret is taken for another."""
    authorization = request.headers["Authorization"]
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: request.headers[name] for name in signed if name in request.headers}
    # As it came: werkzeug's path is decoded.
    url = f"http://{request.host}{request.environ['REQUEST_URI']}"
    # S3's requests say the hash of their body in a header that is signed.
    body = b"" if service == "s3" else request.get_data()
    again = AWSRequest(request.method, url, headers, body)
    again.context["timestamp"] = request.headers.get("X-Amz-Date", "")
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = signer(Credentials(session.access_key_id, session.secret_access_key, session.session_token), service, region)
    expected = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    if authorization.partition("Signature=")[2] != expected:
        message = "The request signature we calculated does not match the signature you provided"
        raise DeniedError(message, "SignatureDoesNotMatch")


def _answer(request: Request, service: str, denied: DeniedError) -> Response:
    """The refusal in the form of the service."""
    protocol = calls.protocol(service)
    code, message = denied.code, str(denied)
    if protocol in ("json", "rest-json"):
        kind = "AccessDeniedException" if code == "AccessDenied" else code
        body = json.dumps({"__type": kind, "message": message, "Message": message})
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": kind}
        return Response(body, 400 if protocol == "json" else 403, headers)
    if service == "sns" and code == "AccessDenied":
        code = "AuthorizationError"
    error = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if protocol == "query":
        error = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>"
    else:
        error = f"<Error>{error}</Error>"
    return Response("" if request.method == "HEAD" else error, 403, {"Content-Type": "text/xml"})
