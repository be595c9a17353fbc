"""Authorizes each request before a service gets it: a session has the permissions of its role and no others.

The access key `local`, which the commands of this package use, belongs to the account's administrator. Policies do not
restrict it, except that it can assume a role only if the role's trust policy allows that. Only the administrator can
assume a role that does not exist; the session is then an administrator too. Policies of IAM, buckets, keys, secrets,
functions and roles decide about all other requests. A request that they cannot decide about is denied with a reason.
"""

import base64
import json
import sys
import threading
from collections.abc import Mapping, Sequence
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
from mwaa_local.settings import ACCOUNT_ID, ADMINISTRATOR_KEY, REGION
from mwaa_release.policies import Principal, Right, Statement, UndecidedError, statements, why_denied

_ADMINISTRATOR = Principal(
    f"arn:aws:iam::{ACCOUNT_ID}:user/administrator",
    ACCOUNT_ID,
    frozenset({("AWS", f"arn:aws:iam::{ACCOUNT_ID}:user/administrator")}),
)
_EVERYTHING: list[Statement] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
# The only call without a signature.
_UNSIGNED = "AssumeRoleWithWebIdentity"


@dataclass(frozen=True)
class Session:
    """Temporary credentials of a role."""

    key: str
    secret: str
    token: str

    def environment(self) -> dict[str, str]:
        """Return the variables from which AWS's libraries read them."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.token,
        }


class DeniedError(Exception):
    """A request is denied. The text is AWS's message to the caller."""

    def __init__(self, message: str, code: str = "AccessDenied") -> None:
        super().__init__(message)
        self.code = code


def take_role(arn: str, service: str, context: Mapping[str, str], name: str) -> Session:
    """Return a session of the role with which a service runs code.

    Args:
        arn: the role.
        service: such as `lambda.amazonaws.com`.
        context: condition keys for the role's trust policy, such as `aws:SourceArn`.
        name: of the session.

    Raises:
        DeniedError: the role does not trust the service.
    """
    with _assume_lock:
        _check(Principal(service, "", frozenset({("Service", service)})), [Right("sts:AssumeRole", arn, context)], [])
        sessions = get_backend("sts")[arn.split(":")[4]]["aws"]
        # All requests of a service share a session, because moto never deletes one.
        for session in sessions.assumed_roles:
            if (session.role_arn, session.session_name) == (arn, name):
                break
        else:
            session = sessions.assume_role(REGION, name, arn, "", 3600, "")
        return Session(session.access_key_id, session.secret_access_key, session.session_token)


def check_role(arn: str, needed: Sequence[Right]) -> None:
    """Require permissions of a role, with which a service acts.

    Args:
        arn: an existing role.
        needed: all of these.

    Raises:
        DeniedError: the role lacks one.
    """
    principal = Principal(arn, ACCOUNT_ID, frozenset({("AWS", arn)}))
    _check_all(principal, [[right] for right in needed], identity_statements(rights.role(arn)))


_assume_lock = threading.Lock()
_allowed: set[tuple[str, str]] = set()
# Roles that the administrator has assumed although they do not exist.
_unmanaged_roles: set[str] = set()


def denied_response(
    request: Request, service: str, region: str, extra_parameters: Mapping[str, Any]
) -> Response | None:
    """Return the service's answer to a request that is denied, or None if the request is allowed.

    Args:
        request: the request.
        service: the service in its signature; empty without a signature.
        region: the Region in its signature.
        extra_parameters: parameters of the call that the request does not contain.
    """
    try:
        _decide(request, service, region, extra_parameters)
    except DeniedError as denied:
        return _answer(request, service or "sts", denied)
    except UndecidedError as error:
        text = f"not authorized: the AWS stand-in cannot evaluate a policy with {error}"
        return _answer(request, service or "sts", DeniedError(text))
    except calls.UnknownCallError as error:
        text = f"not authorized: the AWS stand-in does not know which permission this needs: {error}"
        return _answer(request, service or "sts", DeniedError(text))
    return None


def _decide(request: Request, service: str, region: str, extra_parameters: Mapping[str, Any]) -> None:
    authorization = request.headers.get("Authorization", "")
    if not authorization:
        _decide_unsigned(request, region)
        return
    key = authorization.partition("Credential=")[2].partition("/")[0]
    if key == ADMINISTRATOR_KEY:
        # A role's trust policy restricts the administrator too.
        if service == "sts" and (call := calls.read(request, service, region)).operation == "AssumeRole":
            arn = call.parameters.get("RoleArn", "")
            if rights.role(arn):
                _check_all(_ADMINISTRATOR, rights.rights(call, ACCOUNT_ID), _EVERYTHING)
            else:
                _unmanaged_roles.add(arn)
        return
    session = _session(key, request.headers.get("X-Amz-Security-Token", ""), service)
    _check_signature(request, service, region, session)
    role = rights.role(session.role_arn)
    if role is None and session.role_arn in _unmanaged_roles:
        return
    if role is None:
        raise DeniedError(f"User: {session.arn} is not authorized to do anything: its role has been deleted")
    call = calls.read(request, service, region)
    call.parameters.update(extra_parameters)
    account = session.role_arn.split(":")[4]
    names = {("AWS", session.role_arn), ("AWS", session.arn)}
    if session.policy or role.permissions_boundary:
        raise UndecidedError("a session policy or a permissions boundary")
    principal = Principal(session.arn, account, frozenset(names))
    _check_all(principal, rights.rights(call, account), identity_statements(role))


def _decide_unsigned(request: Request, region: str) -> None:
    """Authorize a request with a web identity's token instead of a signature. moto's own pages need neither."""
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
        # AWS gives no reason.
        raise DeniedError(f"Not authorized to perform sts:{_UNSIGNED}") from None


def _claims(token: str) -> dict[str, Any]:
    """Return the claims of a token. Its signature is not verified."""
    try:
        body = token.split(".")[1]
        return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
    except (IndexError, ValueError, TypeError):
        raise DeniedError("The ID Token provided is not a valid JWT", "InvalidIdentityToken") from None


def _check_all(principal: Principal, needed: rights.Rights, identity: list[Statement]) -> None:
    for alternatives in needed:
        _check(principal, alternatives, identity)


def _check(principal: Principal, alternatives: list[Right], identity: list[Statement]) -> None:
    """Require one of several permissions. Log each denial, and the first use of each permission."""
    reasons = []
    for right in alternatives:
        policy, owner = rights.own_policy(right.resource)
        context = {
            # AWS allows TLS only; the stand-in has none.
            "aws:SecureTransport": "true",
            "aws:PrincipalArn": principal.arn,
            "aws:PrincipalAccount": principal.account,
            **right.context,
        }
        request = Right(right.action, right.resource, context)
        if not (why := why_denied(principal, request, identity, policy, owner or principal.account)):
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
    # Another thread can add an account, so this iterates over a copy.
    for account in list(get_backend("sts")):
        session = get_backend("sts")[account]["aws"].get_assumed_role_from_access_key(key)
        if session and session.session_token == token:
            return session
    message = "The security token included in the request is invalid"
    raise DeniedError(message, "InvalidAccessKeyId" if service == "s3" else "InvalidClientTokenId")


def identity_statements(role: Any) -> list[Statement]:
    """Return the statements of the inline and the attached policies of moto's role."""
    versions = [version for policy in role.managed_policies.values() for version in policy.versions]
    attached = [version.document for version in versions if version.is_default]
    return [statement for document in [*role.policies.values(), *attached] for statement in statements(document)]


def _check_signature(request: Request, service: str, region: str, session: Any) -> None:
    """Compare the signature with the one that botocore computes for the same request."""
    authorization = request.headers["Authorization"]
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: request.headers[name] for name in signed if name in request.headers}
    # werkzeug decodes request.path, but the signature covers the encoded path.
    url = f"http://{request.host}{request.environ['REQUEST_URI']}"
    # A request to S3 has the hash of its body in a signed header.
    body = b"" if service == "s3" else request.get_data()
    resigned = AWSRequest(request.method, url, headers, body)
    resigned.context["timestamp"] = request.headers.get("X-Amz-Date", "")
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = signer(Credentials(session.access_key_id, session.secret_access_key, session.session_token), service, region)
    expected = auth.signature(auth.string_to_sign(resigned, auth.canonical_request(resigned)), resigned)
    if authorization.partition("Signature=")[2] != expected:
        message = "The request signature we calculated does not match the signature you provided"
        raise DeniedError(message, "SignatureDoesNotMatch")


def _answer(request: Request, service: str, denied: DeniedError) -> Response:
    """Return the denial in the service's format."""
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
