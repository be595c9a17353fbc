"""Creates the roles of `infra/` at the stand-in from its templates, and assumes them.

So the tasks of a local run have exactly the permissions of the production environment's execution role, and a local
release has those of GitHub's role.
"""

import base64
import json
from typing import Any

import boto3
import botocore.session
import httpx
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials

from mwaa_local.settings import ACCOUNT_ID, ENVIRONMENT, REGION, Settings
from mwaa_local.templates import Template
from mwaa_release.contracts import contract

# The issuer and the job whose token the release role trusts.
ISSUER: str = contract("github_oidc")["issuer"]
PROVIDER = f"arn:aws:iam::{ACCOUNT_ID}:oidc-provider/{ISSUER}"
GITHUB_REPOSITORY = "acme/data"
RELEASE_JOB: str = contract("github_oidc")["subject"].format(owner="acme", name="data", environment="dev")


def make(iam: Any, file: str, **values: str) -> dict[str, str]:
    """Create or update the roles of a template.

    Args:
        iam: boto3 client.
        file: a template in `infra/`.
        values: of the template's parameters, and of other resources that the roles name, such as `Topic` or
            `Queue.Arn`.

    Returns:
        The ARNs by logical id. A role without a RoleName is named after the file and its logical id.
    """
    template, arns = Template(file, values), {}
    for name, resource in template.content["Resources"].items():
        if resource["Type"] != "AWS::IAM::Role" or not template.holds(resource.get("Condition")):
            continue
        properties = template.evaluate(resource["Properties"])
        role = properties.get("RoleName", f"{file.partition('.')[0]}-{name}")
        trust = json.dumps(properties["AssumeRolePolicyDocument"])
        try:
            arns[name] = iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        except iam.exceptions.EntityAlreadyExistsException:
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=trust)
            arns[name] = iam.get_role(RoleName=role)["Role"]["Arn"]
        for policy in properties["Policies"]:
            _put_policy(iam, role, policy)
    return arns


def add_policies(iam: Any, file: str, **values: str) -> None:
    """Add a template's separate policies to the existing roles that they name.

    Args:
        iam: boto3 client.
        file: a template in `infra/`.
        values: as of `make`.
    """
    template = Template(file, values)
    for resource in template.content["Resources"].values():
        if resource["Type"] == "AWS::IAM::Policy" and template.holds(resource.get("Condition")):
            policy = template.evaluate(resource["Properties"])
            for role in policy["Roles"]:
                _put_policy(iam, role, policy)


def _put_policy(iam: Any, role: str, policy: dict[str, Any]) -> None:
    document = json.dumps(policy["PolicyDocument"])
    iam.put_role_policy(RoleName=role, PolicyName=policy["PolicyName"], PolicyDocument=document)


def web_identity(subject: str) -> str:
    """Return an unsigned token as GitHub issues it to a job. The stand-in does not verify signatures.

    Args:
        subject: the job, such as `repo:acme/data:environment:dev`.
    """
    parts = ({"alg": "none"}, {"iss": f"https://{ISSUER}", "aud": contract("github_oidc")["audience"], "sub": subject})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), ""])


def job_session(settings: Settings, role_arn: str, subject: str = RELEASE_JOB) -> boto3.Session:
    """Return the session that the action configure-aws-credentials gets for a job.

    Raises:
        botocore.exceptions.ClientError: the role does not trust the subject.
    """
    sts = boto3.client("sts", endpoint_url=settings.aws_url, region_name=REGION)
    credentials = sts.assume_role_with_web_identity(
        RoleArn=role_arn, RoleSessionName="release", WebIdentityToken=web_identity(subject)
    )["Credentials"]
    return boto3.Session(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


def keys(session: boto3.Session) -> dict[str, str]:
    """Return a session's credentials as environment variables."""
    credentials = session.get_credentials()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return dict(zip(names, (credentials.access_key, credentials.secret_key, credentials.token), strict=True))


class _Worker(CredentialProvider):
    """The credentials of a worker, fetched at the first call."""

    METHOD = CANONICAL_NAME = "container-role"

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(self._fetch, self.METHOD)

    def _fetch(self) -> dict[str, str]:
        credentials = httpx.get(self._address, trust_env=False).raise_for_status().json()
        names = {"AccessKeyId": "access_key", "SecretAccessKey": "secret_key", "Token": "token"}
        return {names.get(name, "expiry_time"): value for name, value in credentials.items()}


def worker_session(settings: Settings, environment: str = ENVIRONMENT) -> boto3.Session:
    """Return a session with the execution role of an environment."""
    session = botocore.session.Session()
    provider = _Worker(settings.worker_environment(environment)["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    session.register_component("credential_provider", CredentialResolver([provider]))
    return boto3.Session(botocore_session=session)


def client_of(session: boto3.Session, settings: Settings, service: str) -> Any:
    """Return a session's client of a service of the stand-in."""
    config = Config(inject_host_prefix=False, max_pool_connections=16)
    return session.client(service, endpoint_url=settings.aws_url, region_name=REGION, config=config)
