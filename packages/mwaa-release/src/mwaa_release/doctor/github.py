"""Checks of the login of GitHub's jobs: the OIDC provider and the trust policy of the release role."""

import json
import re
import subprocess

from mwaa_release.contracts import contract
from mwaa_release.doctor.check import Account, Check, Finding, NotCheckedError, Result
from mwaa_release.policies import Principal, Right, statements, why_denied

_ISSUER: str = contract("github_oidc")["issuer"]
_AUDIENCE: str = contract("github_oidc")["audience"]
# GitHub answers with the prefix of the subject since this version of its API.
_API_VERSION = "X-GitHub-Api-Version: 2026-03-10"


def _provider(account: Account) -> Result:
    _require_repository(account)
    iam = account.client("iam")
    try:
        audiences = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=_provider_arn(account))["ClientIDList"]
    except iam.exceptions.NoSuchEntityException:
        return Finding("the account has no OIDC provider for GitHub", "create it by step 6 of infra/README.md")
    if _AUDIENCE not in audiences:
        return Finding(
            f"GitHub's OIDC provider has the audiences {', '.join(audiences) or 'none'}, not {_AUDIENCE}",
            f"aws iam add-client-id-to-open-id-connect-provider --client-id {_AUDIENCE} "
            f"--open-id-connect-provider-arn {_provider_arn(account)}",
        )
    return f"{_ISSUER} with audience {_AUDIENCE}"


def _release_role(account: Account) -> Result:
    iam, name = account.client("iam"), account.release_role
    try:
        role = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        return Finding(
            f"there is no role {name!r}", "create it by step 6 of infra/README.md, or name it: --release-role <name>"
        )
    prefix = _subject_prefix(account.repository)
    subject = f"{prefix}:environment:{account.github_environment}"
    if not _trusts(account, role, subject):
        ids = re.fullmatch(r"repo:[^/]+@(\d+)/[^/]+@(\d+)", prefix)
        parameters = f" OwnerId={ids[1]} RepositoryId={ids[2]}" if ids else ""
        return Finding(
            f"{name} does not trust {subject}",
            f"repeat step 6 of infra/README.md with Repository={account.repository} "
            f"GitHubEnvironment={account.github_environment}{parameters}",
        )
    for stranger in (f"repo:stranger/{account.repository.partition('/')[2]}:environment:dev", f"{prefix}:pull_request"):
        if _trusts(account, role, stranger):
            return Finding(
                f"{name} trusts {stranger} too",
                "repeat step 6 of infra/README.md; its trust policy names one subject with StringEquals",
            )
    return f"{name} trusts {subject}"


def _trusts(account: Account, role: dict[str, object], subject: str) -> bool:
    principal = Principal(subject, "", frozenset({("Federated", _provider_arn(account))}))
    right = Right(
        "sts:AssumeRoleWithWebIdentity",
        str(role["Arn"]),
        {f"{_ISSUER}:aud": _AUDIENCE, f"{_ISSUER}:sub": subject},
    )
    policy = statements(json.dumps(role["AssumeRolePolicyDocument"]))
    return not why_denied(principal, right, [], policy, account.caller["Account"])


def _subject_prefix(repository: str) -> str:
    """Return the prefix of the subject in this repository's tokens, such as `repo:acme@1/data@2`.

    https://docs.github.com/en/rest/actions/oidc
    """
    path = f"repos/{repository}/actions/oidc/customization/sub"
    command = ["gh", "api", "-H", _API_VERSION, path]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        raise NotCheckedError("GitHub's CLI `gh` is not installed, so the repository's subject is unknown") from None
    except subprocess.TimeoutExpired:
        raise NotCheckedError("GitHub did not answer in 30 seconds") from None
    if answer.returncode:
        raise NotCheckedError(f"GitHub refused {path}: {answer.stderr.strip()}; sign in: gh auth login")
    content = json.loads(answer.stdout)
    if not content.get("use_default", True):
        raise NotCheckedError(
            f"{repository} has a custom subject ({', '.join(content.get('include_claim_keys', []))}), "
            "which infra/github.yml does not support"
        )
    # Without ids, the prefix is known without GitHub's API.
    return content.get("sub_claim_prefix") or f"repo:{repository}"


def _provider_arn(account: Account) -> str:
    return f"arn:{account.partition}:iam::{account.caller['Account']}:oidc-provider/{_ISSUER}"


def _require_repository(account: Account) -> None:
    if not account.repository:
        raise NotCheckedError("this repository has no remote on GitHub; set --repository owner/name")


GITHUB = (
    Check("GitHub login", _provider, ("credentials",), ("iam:GetOpenIDConnectProvider",)),
    Check("release role", _release_role, ("GitHub login",), ("iam:GetRole",)),
)
