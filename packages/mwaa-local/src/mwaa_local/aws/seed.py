"""Creates the resources of a production account in the AWS stand-in, and reads the alerts.

Buckets, the dbt user's secret, the Airflow connection, the notification function, and the alert topic with a queue in
place of its subscribers.
"""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from mwaa_local.aws import roles
from mwaa_local.settings import ACCOUNT_ID, ADMINISTRATOR_KEY, ENVIRONMENT, REGION, REPOSITORY, Passwords, Settings
from mwaa_local.templates import Template
from mwaa_pipelines.settings import Pipeline
from mwaa_release.mwaa_update import PATH_OF
from mwaa_release.pipelines import all_pipelines, first_pipeline

DAGS_BUCKET = "local-mwaa"
LANDING_BUCKET = "local-landing"
TOPIC = "local-alerts"
INBOX = "local-alerts-inbox"
FUNCTION = "sns_notification"
ROLE = "notification-Role"
RELEASE_ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/local-release-dev"
WAREHOUSE_ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/local-warehouse-dev"
HANDLER_FOLDER = REPOSITORY / "lambda"

_PRIVATE = dict.fromkeys(("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)
# Error codes of S3, Secrets Manager, IAM and Lambda for a resource that exists.
_EXISTS = ("BucketAlreadyOwnedByYou", "ResourceExistsException", "EntityAlreadyExists", "ResourceConflictException")


@dataclass(frozen=True)
class Resources:
    """The resources that `seed` has created."""

    dags_bucket: str
    landing_bucket: str
    topic_arn: str
    inbox_url: str
    function_arn: str


def client(settings: Settings, service: str) -> Any:
    """Return a boto3 client of the stand-in, independent of the AWS variables of this process."""
    return boto3.client(
        service,
        endpoint_url=settings.aws_url,
        region_name=REGION,
        aws_access_key_id=ADMINISTRATOR_KEY,
        aws_secret_access_key="local",  # noqa: S106 - the stand-in takes any
        config=Config(inject_host_prefix=False),
    )


def seed(settings: Settings, passwords: Passwords, warehouse_host: str, warehouse_port: int) -> Resources:
    """Create or update all resources.

    Raises:
        botocore.exceptions.EndpointConnectionError: the stand-in is not running.
    """
    s3, key = client(settings, "s3"), key_arn(settings)
    for bucket in (DAGS_BUCKET, LANDING_BUCKET):
        make_bucket(s3, bucket, key)
    # MWAA wants its bucket versioned: https://docs.aws.amazon.com/mwaa/latest/userguide/mwaa-s3-bucket.html
    s3.put_bucket_versioning(Bucket=DAGS_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    # User and password are in the secret; the pipeline combines both.
    connection = {"conn_type": "redshift", "host": warehouse_host, "port": warehouse_port, "schema": "dev"}
    for pipeline in all_pipelines():
        login = {"username": database_user(pipeline), "password": passwords.dbt_user}
        _put_secret(settings, key, dbt_secret(pipeline), login)
        _put_secret(settings, key, connection_secret(pipeline), {**connection, "extra": {"sslmode": "disable"}})
    topic_arn = client(settings, "sns").create_topic(Name=TOPIC, Attributes={"KmsMasterKeyId": key})["TopicArn"]
    _make_roles(settings, key, topic_arn)
    return Resources(
        dags_bucket=DAGS_BUCKET,
        landing_bucket=LANDING_BUCKET,
        topic_arn=topic_arn,
        inbox_url=_subscribe_inbox(settings, topic_arn),
        function_arn=_deploy_function(settings, topic_arn),
    )


def make_bucket(s3: Any, bucket: str, key: str) -> None:
    """Create a private bucket that is encrypted with a key, or update it."""
    _unless_it_exists(lambda: s3.create_bucket(Bucket=bucket))
    encryption = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": encryption}]}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=_PRIVATE)


def database_user(pipeline: Pipeline) -> str:
    """Return the name of a pipeline's database user: `dbt_user` for the first pipeline. All have one password."""
    first = first_pipeline()
    return "dbt_user" if dbt_secret(pipeline) == dbt_secret(first) else f"{pipeline.project_name}_user"


def dbt_secret(pipeline: Pipeline | None = None) -> str:
    """Return the name of the secret of a pipeline's database user; default: of the first pipeline."""
    return (pipeline or first_pipeline()).secret_name or "dbt_user"


def connection_secret(pipeline: Pipeline | None = None) -> str:
    """Return the name of the secret in which Airflow looks for a pipeline's connection; default: of the first one."""
    return f"airflow/connections/{(pipeline or first_pipeline()).redshift_connection_id}"


def read_alerts(settings: Settings) -> list[dict[str, str]]:
    """Return and delete all delivered alerts, oldest first, as `{"subject", "message", "sent_at"}`.

    Alerts are deleted only after all of them have been read.
    """
    sqs = client(settings, "sqs")
    url = sqs.get_queue_url(QueueName=INBOX)["QueueUrl"]
    received: list[dict[str, Any]] = []
    while batch := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        received += batch
    envelopes = sorted((json.loads(message["Body"]) for message in received), key=lambda e: e["Timestamp"])
    alerts = [
        {"subject": envelope["Subject"], "message": envelope["Message"], "sent_at": envelope["Timestamp"]}
        for envelope in envelopes
    ]
    for message in received:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return alerts


def break_lambda(settings: Settings) -> None:
    """Make the notification function fail until the next `seed`: its role has no permission for the topic."""
    _configure_function(settings, f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:{TOPIC}-missing")


def _unless_it_exists(create: Callable[[], Any]) -> bool:
    """Call `create`, and return False if the resource exists already."""
    try:
        create()
    except ClientError as error:
        if error.response["Error"]["Code"] not in _EXISTS:
            raise
        return False
    return True


def let_tasks_read(settings: Settings, secret_name: str) -> None:
    """Set the secrets that tasks can read, like the parameter SecretName of `infra/environment.yml`.

    Args:
        settings: of a stand-in after `seed`.
        secret_name: name or pattern of the database users' secrets, such as `*/dbt_user`.
    """
    _make_execution_role(settings, key_arn(settings), secret_name)


def _make_execution_role(settings: Settings, key: str, secret_name: str | None = None) -> str:
    values = {
        "KeyArn": key,
        "DagsBucketName": DAGS_BUCKET,
        "LandingBucketName": LANDING_BUCKET,
        "SecretName": secret_name or secret_pattern(),
    }
    return roles.make(client(settings, "iam"), "environment.yml", **values)["ExecutionRole"]


def secret_pattern() -> str:
    """Return the secret of all pipelines, or a pattern that matches their secrets: `*/dbt_user` if all end so."""
    names = [dbt_secret(pipeline) for pipeline in all_pipelines()]
    if len(set(names)) == 1:
        return names[0]
    ends = {f"*/{name.split('/', 1)[1]}" if "/" in name else "*" for name in names}
    return ends.pop() if len(ends) == 1 else "*"


def key_arn(settings: Settings) -> str:
    """Return the ARN of the key that storage.yml creates."""
    kms, alias = client(settings, "kms"), f"alias/{ENVIRONMENT}"
    try:
        return kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"]
    except ClientError:
        key = kms.create_key()["KeyMetadata"]
        kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
        return key["Arn"]


def _make_roles(settings: Settings, key: str, topic_arn: str) -> None:
    """Create the roles of `infra/`, GitHub's OIDC provider, and the MWAA environment."""
    iam = client(settings, "iam")
    issuer = {"Url": f"https://{roles.ISSUER}", "ClientIDList": ["sts.amazonaws.com"]}
    _unless_it_exists(lambda: iam.create_open_id_connect_provider(**issuer))
    github = {"Repository": roles.GITHUB_REPOSITORY, "GitHubEnvironment": "dev", "ProviderArn": roles.PROVIDER}
    pipeline = {"SecretName": dbt_secret(), "ConnectionId": first_pipeline().redshift_connection_id}
    roles.make(iam, "github.yml", KeyArn=key, DagsBucketName=DAGS_BUCKET, **github, **pipeline, Freshness="true")
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:/aws/lambda/{FUNCTION}:*"
    others = {"Topic": topic_arn, "Logs.Arn": logs}
    roles.make(iam, "notification.yml", KeyArn=key, **others)
    _make_environment(settings, key, _make_execution_role(settings, key))


def environment_properties(values: dict[str, str]) -> dict[str, Any]:
    """Return the properties of the MWAA environment of `infra/environment.yml`, for CreateEnvironment.

    Args:
        values: of the template's parameters, and `ExecutionRole.Arn`.
    """
    network = {"SubnetIds": ["subnet-a", "subnet-b"], "SecurityGroup": "sg-a"}
    template = Template("environment.yml", network | values)
    return dict(template.evaluate(template.content["Resources"]["Environment"]["Properties"]))


def _make_environment(settings: Settings, key: str, execution_role: str) -> None:
    mwaa = client(settings, "mwaa")
    if ENVIRONMENT in mwaa.list_environments()["Environments"]:
        return
    values = {"KeyArn": key, "DagsBucketName": DAGS_BUCKET, "LandingBucketName": LANDING_BUCKET}
    values |= {"ExecutionRole.Arn": execution_role, "PipelinesEnvironment": first_pipeline().environment or ""}
    properties = environment_properties(values)
    # The bucket is empty. The update after the first release sets both files.
    for path in PATH_OF.values():
        del properties[path]
    mwaa.create_environment(**properties)


def _put_secret(settings: Settings, key: str, name: str, value: dict[str, Any]) -> None:
    secrets = client(settings, "secretsmanager")
    text = json.dumps(value)
    if not _unless_it_exists(lambda: secrets.create_secret(Name=name, SecretString=text, KmsKeyId=key)):
        secrets.put_secret_value(SecretId=name, SecretString=text)


def _subscribe_inbox(settings: Settings, topic_arn: str) -> str:
    sqs = client(settings, "sqs")
    url = sqs.create_queue(QueueName=INBOX)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client(settings, "sns").subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn)
    return url


def _deploy_function(settings: Settings, topic_arn: str) -> str:
    functions = client(settings, "lambda")
    code = _zipped_handler()
    _unless_it_exists(
        lambda: functions.create_function(
            FunctionName=FUNCTION,
            Runtime="python3.12",
            Handler="handler.lambda_handler",
            Role=f"arn:aws:iam::{ACCOUNT_ID}:role/{ROLE}",
            Timeout=30,
            Environment={"Variables": {"TOPIC_ARN": topic_arn}},
            Code={"ZipFile": code},
        )
    ) or functions.update_function_code(FunctionName=FUNCTION, ZipFile=code)
    return _configure_function(settings, topic_arn)


def _configure_function(settings: Settings, topic_arn: str) -> str:
    return client(settings, "lambda").update_function_configuration(
        FunctionName=FUNCTION, Environment={"Variables": {"TOPIC_ARN": topic_arn}}
    )["FunctionArn"]


def _zipped_handler() -> bytes:
    """Return the folder `lambda/` as a reproducible zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(HANDLER_FOLDER.rglob("*.py")):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(HANDLER_FOLDER))), path.read_bytes())
    return buffer.getvalue()
