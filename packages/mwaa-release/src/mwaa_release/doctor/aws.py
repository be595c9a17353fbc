"""Checks of the account: credentials, MWAA environment, bucket, release, execution role and alert."""

import itertools
import json
import shlex
from collections.abc import Iterator
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from mwaa_pipelines.config_file import environments
from mwaa_release.account import check_account
from mwaa_release.bucket import in_parallel
from mwaa_release.contracts import contract
from mwaa_release.doctor.check import Account, Check, Finding, NotCheckedError, Result, count
from mwaa_release.mwaa_update import pending_changes
from mwaa_release.pipelines import find_pipeline
from mwaa_release.plan import damaged_files, read_project
from mwaa_release.release import PROJECTS
from mwaa_release.templates import Template

_BACKEND_KWARGS = "secrets.backend_kwargs"
_ENVIRONMENT = "dbt.environment"
# IAM simulates no wildcards. A statement with one of these is checked by the actions that Airflow and MWAA use.
_ACTIONS_OF_PATTERN = {
    "s3:GetObject*": ["s3:GetObject", "s3:GetObjectVersion"],
    "s3:GetBucket*": ["s3:GetBucketVersioning", "s3:GetBucketPublicAccessBlock"],
    "s3:List*": ["s3:ListBucket"],
    "kms:GenerateDataKey*": ["kms:GenerateDataKey"],
}


def _credentials(account: Account) -> Result:
    sts = account.client("sts")
    check_account(sts, account.expected_account)
    account.caller, account.region = sts.get_caller_identity(), sts.meta.region_name
    return f"{account.caller['Arn']} in {account.region}"


# --- environment ------------------------------------------------------------------------------------------------------


def _environment(account: Account) -> Result:
    name = account.environment_name
    mwaa = account.client("mwaa")
    try:
        environment = mwaa.get_environment(Name=name)["Environment"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return Finding(
            f"there is no environment {name!r} in {account.region}",
            "create it by step 8 of infra/README.md, or choose another: aws mwaa list-environments",
            stops_smoke=True,
        )
    status = environment["Status"]
    if status not in ("AVAILABLE", "UPDATE_FAILED"):
        return Finding(f"{name} is {status}", f"wait for AVAILABLE: aws mwaa get-environment --name {name}")
    account.environment = environment
    bucket, dags = account.bucket, environment["DagS3Path"].strip("/")
    if environment["SourceBucketArn"].rpartition(":")[2] != bucket.name:
        return Finding(
            f"{name} reads {environment['SourceBucketArn']}, not s3://{bucket.name} (--bucket)",
            f"choose the environment of this bucket, or --bucket {environment['SourceBucketArn'].rpartition(':')[2]}",
        )
    if dags != "dags":
        return Finding(
            f"{name} reads DAGs from {dags}/, but releases are in dags/",
            f"aws mwaa update-environment --name {name} --dag-s3-path dags",
        )
    if finding := _wrong_pipelines_environment(account):
        return finding
    return f"{name} is {status} and reads s3://{bucket.name}"


def _wrong_pipelines_environment(account: Account) -> Finding | None:
    """Use the settings that the pipeline has in this environment. Return a finding if it has none."""
    if not account.pipeline.environment:
        return None
    name = account.environment.get("AirflowConfigurationOptions", {}).get(_ENVIRONMENT)
    names = environments(account.pipelines_file)
    if name not in names:
        return Finding(
            f"the option {_ENVIRONMENT} is {name or 'not set'}, but dags/pipelines.yml has the environments "
            f"{', '.join(names)}",
            f"deploy the stack environment with PipelinesEnvironment={names[0]}, or another of these names",
            stops_smoke=True,
        )
    account.pipeline = find_pipeline(account.pipeline.dag_name, account.pipelines_file, name)
    return None


def _airflow_version(account: Account) -> Result:
    version, versions = account.environment.get("AirflowVersion"), contract("mwaa_environment")["airflow_versions"]
    if version not in versions:
        return Finding(
            f"Airflow {version}; the DAGs are tested with {', '.join(versions)}",
            f"aws mwaa update-environment --name {account.environment_name} --airflow-version {versions[-1]}",
        )
    return f"Airflow {version}"


def _environment_class(account: Account) -> Result:
    name, facts = account.environment.get("EnvironmentClass"), contract("mwaa_environment")
    classes = facts["classes"]
    update = f"aws mwaa update-environment --name {account.environment_name}"
    if name not in classes:
        return Finding(
            f"{name} is unknown; classes are {', '.join(classes)}", f"{update} --environment-class mw1.small"
        )
    if name == "mw1.micro":
        options = {"MaxWorkers": "--max-workers", "Schedulers": "--schedulers"}
        options |= {"MinWebservers": "--min-webservers", "MaxWebservers": "--max-webservers"}
        for setting, only in facts["micro"].items():
            if account.environment.get(setting, only) != only:
                value = account.environment[setting]
                return Finding(
                    f"mw1.micro with {setting}={value}, which must be {only}", f"{update} {options[setting]} {only}"
                )
    return f"{name}, up to {account.environment.get('MaxWorkers', 'unknown')} workers"


def _stack(account: Account) -> Template:
    """Return infra/environment.yml with the values of the account."""
    account_id, region = account.caller["Account"], account.region
    pseudo = {"AWS::Partition": account.partition, "AWS::AccountId": account_id, "AWS::Region": region}
    options = account.environment.get("AirflowConfigurationOptions", {})
    values = {
        "Name": account.environment_name,
        "DagsBucketName": account.bucket.name,
        "KeyArn": account.environment.get("KmsKey", ""),
        "PipelinesEnvironment": account.pipeline.environment or "",
        "FunctionName": account.pipeline.sns_lambda_function_name or "",
        "SecretName": account.pipeline.secret_name or "",
        "LandingBucketName": options.get("dbt.landing_bucket", ""),
        "PackageSource": "wheels" if "dbt.wheels" in options else "index",
        "WarehouseRoleArns": account.connection.get("extra", {}).get("role_arn", ""),
    }
    return Template("environment.yml", pseudo | values)


def _airflow_options(account: Account) -> Result:
    template = _stack(account)
    declared = template.content["Resources"]["Environment"]["Properties"]["AirflowConfigurationOptions"]
    required, actual = template.evaluate(declared), account.environment.get("AirflowConfigurationOptions", {})
    # The check `connection` reads the pattern in the options of the backend.
    wrong = [name for name, value in required.items() if name != _BACKEND_KWARGS and actual.get(name) != value]
    if _BACKEND_KWARGS not in actual:
        wrong.append(_BACKEND_KWARGS)
    if not wrong:
        return f"{len(required)} options as in infra/environment.yml"
    # MWAA replaces all options.
    options = json.dumps(actual | {name: required[name] for name in wrong})
    problems = (f"{name} is {actual.get(name, 'not set')} instead of {required[name]}" for name in wrong)
    return Finding(
        f"{'; '.join(problems)} (infra/environment.yml)",
        f"aws mwaa update-environment --name {account.environment_name} "
        f"--airflow-configuration-options {shlex.quote(options)}",
    )


# --- bucket and release -----------------------------------------------------------------------------------------------


def _versioned(account: Account) -> Result:
    bucket = account.bucket
    if bucket.s3.get_bucket_versioning(Bucket=bucket.name).get("Status") != "Enabled":
        return Finding(
            f"s3://{bucket.name} is not versioned, but MWAA reads files by version",
            f"aws s3api put-bucket-versioning --bucket {bucket.name} --versioning-configuration Status=Enabled",
        )
    return f"s3://{bucket.name} keeps versions"


def _encrypted(account: Account) -> Result:
    bucket = account.bucket
    try:
        rules = bucket.s3.get_bucket_encryption(Bucket=bucket.name)["ServerSideEncryptionConfiguration"]["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ServerSideEncryptionConfigurationNotFoundError":
            raise
        rules = []
    algorithms = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") for rule in rules]
    if not any(algorithms):
        rule = '{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}'
        return Finding(
            f"s3://{bucket.name} has no default encryption",
            f"aws s3api put-bucket-encryption --bucket {bucket.name} --server-side-encryption-configuration '{rule}'",
        )
    return f"s3://{bucket.name} encrypts with {algorithms[0]}"


def _private(account: Account) -> Result:
    bucket = account.bucket
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    try:
        settings = bucket.s3.get_public_access_block(Bucket=bucket.name)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchPublicAccessBlockConfiguration":
            raise
        settings = {}
    if missing := [name for name in names if not settings.get(name)]:
        return Finding(
            f"s3://{bucket.name} can become public ({', '.join(missing)} off), which MWAA refuses",
            f"aws s3api put-public-access-block --bucket {bucket.name} "
            f"--public-access-block-configuration {','.join(f'{name}=true' for name in names)}",
        )
    return f"s3://{bucket.name} blocks public access"


def _release(account: Account) -> Result:
    bucket, name = account.bucket, account.pipeline.project_name
    sizes = bucket.sizes(f"{PROJECTS}{name}/")
    state = read_project(bucket, name, sizes)
    apply = f"python -m mwaa_release build && python -m mwaa_release apply --bucket {bucket.name}"
    if state.live is None:
        live = f"names {state.live_id}, which is incomplete" if state.live_id else "does not exist"
        return Finding(f"{name} has no live release: {PROJECTS}{name}/CURRENT {live}", apply, stops_smoke=True)
    if damaged := damaged_files(state.live, sizes):
        return Finding(f"{state.live_id} is damaged: {damaged[0]} is missing or has another size", apply)
    manifest = f"{state.live.prefix}manifest.json"
    account.manifest = json.loads(bucket.read(manifest) or b"{}")
    return f"{state.live_id} is live, {count(len(state.live.files), 'file')}"


def _released_files(account: Account) -> Result:
    bucket = account.bucket
    changes = pending_changes(account.environment, bucket)
    apply = f"python -m mwaa_release apply --bucket {bucket.name} --environment {account.environment_name}"
    if changes:
        return Finding(f"the environment has another {' and '.join(changes)} than s3://{bucket.name}", apply)
    if missing := [file for file in ("requirements.txt", "startup.sh") if not bucket.describe(file)]:
        return Finding(f"s3://{bucket.name} has no {' and no '.join(missing)}", apply)
    return "the environment has the released requirements.txt and startup.sh"


# --- execution role ---------------------------------------------------------------------------------------------------


def _execution_role(account: Account) -> Result:
    arn = account.environment["ExecutionRoleArn"]
    iam, requests = account.client("iam"), list(_simulations(account))
    answers = in_parallel([partial(_simulate, iam, arn, *request) for request in requests])
    denied = sorted({(action, resource) for answer in answers for action, resource in answer})
    if not denied:
        number = len({action for actions, *_ in requests for action in actions})
        return f"{arn.rpartition('/')[2]} has the {count(number, 'action')} of infra/environment.yml"
    statements = [
        {"Effect": "Allow", "Action": sorted(action for action, _ in group), "Resource": resource}
        for resource, group in itertools.groupby(sorted(denied, key=lambda pair: pair[1]), key=lambda pair: pair[1])
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return Finding(
        f"{arn.rpartition('/')[2]} lacks {', '.join(sorted({action for action, _ in denied}))}",
        f"aws iam put-role-policy --role-name {arn.rpartition('/')[2]} --policy-name pipelines-missing "
        f"--policy-document {shlex.quote(document)}",
    )


def _simulations(account: Account) -> Iterator[tuple[list[str], str, str, dict[str, str]]]:
    """Yield actions, the resource in the policy, a resource to simulate, and condition keys, for the execution role."""
    template = _stack(account)
    policies = template.evaluate(template.content["Resources"]["ExecutionRole"]["Properties"]["Policies"])
    # Empty for a connection in Airflow's own database.
    connection = account.connections_prefix and (
        f"{account.connections_prefix}/{account.pipeline.redshift_connection_id}-??????"
    )
    for statement in (statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]):
        patterns = _listed(statement["Action"])
        actions = [action for pattern in patterns for action in _ACTIONS_OF_PATTERN.get(pattern, [pattern])]
        conditions = statement.get("Condition", {}).get("StringEquals", {})
        choices = itertools.product(*map(_listed, conditions.values()))
        contexts = [dict(zip(conditions, values, strict=True)) for values in choices]
        for resource in _listed(statement["Resource"]):
            resource = resource.replace("airflow/connections/*", connection)
            suitable = [action for action in actions if _takes(action, resource)]
            # Without a name, the pipeline or environment does not use the resource: no alert, secret or key.
            if not suitable or not resource or resource.endswith((":function:", ":secret:", ":secret:-??????")):
                continue
            example = resource if resource == "*" else resource.replace("?", "x").replace("*", "example")
            if ":sqs:" in resource:
                # AWS owns the account of the queue.
                example = account.environment.get("CeleryExecutorQueue", example)
            for context in contexts:
                yield suitable, resource, example, context


def _takes(action: str, resource: str) -> bool:
    """Whether an action of S3 is for objects, like the resource, or for buckets."""
    return not action.startswith("s3:") or resource == "*" or ("Object" in action) == ("/" in resource)


def _simulate(
    iam: Any, role: str, actions: list[str], resource: str, example: str, context: dict[str, str]
) -> list[tuple[str, str]]:
    """Return the actions that are denied, with the resource in the policy."""
    entries = [
        {"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for name, value in context.items()
    ]
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=role, ActionNames=actions, ResourceArns=[example], ContextEntries=entries
    )
    results = (result for page in pages for result in page["EvaluationResults"])
    return [(result["EvalActionName"], resource) for result in results if result["EvalDecision"] != "allowed"]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- alert ------------------------------------------------------------------------------------------------------------


def _alert_function(account: Account) -> Result:
    name = account.pipeline.sns_lambda_function_name
    if not name:
        raise NotCheckedError("the pipeline sends no alerts (sns_lambda_function_name in dags/pipelines.yml)")
    functions = account.client("lambda")
    try:
        configuration = functions.get_function_configuration(FunctionName=name)
    except functions.exceptions.ResourceNotFoundException:
        return Finding(f"there is no function {name!r} in {account.region}", "create it by step 4 of infra/README.md")
    topic = configuration.get("Environment", {}).get("Variables", {}).get("TOPIC_ARN", "")
    if not topic:
        return Finding(
            f"{name} has no variable TOPIC_ARN",
            f"aws lambda update-function-configuration --function-name {name} "
            "--environment Variables={TOPIC_ARN=<ARN of the topic>}",
        )
    if configuration["CodeSize"] < _PLACEHOLDER_BYTES:
        return Finding(
            f"{name} has no code yet",
            f"python -m mwaa_release apply --bucket {account.bucket.name} --lambda-function {name}",
        )
    account.topic_arn = topic
    return f"{name} publishes to {topic}"


# The stack creates the function with a comment instead of code. The zip of the handler has more than 1 kB.
_PLACEHOLDER_BYTES = 500


def _alert_topic(account: Account) -> Result:
    sns, topic = account.client("sns"), account.topic_arn
    subscribe = f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint you@example.com"
    try:
        pages = list(sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic))
    except sns.exceptions.NotFoundException:
        return Finding(f"the topic {topic} does not exist", "create it by step 4 of infra/README.md")
    subscriptions = [subscription for page in pages for subscription in page["Subscriptions"]]
    if not subscriptions:
        return Finding(f"nobody receives the alerts: {topic} has no subscription", subscribe)
    pending = [item["Endpoint"] for item in subscriptions if item["SubscriptionArn"] == "PendingConfirmation"]
    if pending:
        return Finding(
            f"not confirmed: {', '.join(pending)}", f"open the link in the mail from AWS; to send it again: {subscribe}"
        )
    return count(len(subscriptions), "confirmed subscription")


CREDENTIALS = Check("credentials", _credentials)
ENVIRONMENT = (
    Check("environment", _environment, ("credentials",), ("airflow:GetEnvironment",)),
    Check("Airflow version", _airflow_version, ("environment",)),
    Check("environment class", _environment_class, ("environment",)),
    Check("Airflow options", _airflow_options, ("environment",)),
)
BUCKET = (
    Check("bucket versioning", _versioned, ("credentials",), ("s3:GetBucketVersioning",)),
    Check("bucket encryption", _encrypted, ("credentials",), ("s3:GetEncryptionConfiguration",)),
    Check("bucket access", _private, ("credentials",), ("s3:GetBucketPublicAccessBlock",)),
)
RELEASE = (
    Check("live release", _release, ("credentials",), ("s3:ListBucket", "s3:GetObject", "kms:Decrypt")),
    Check("released files", _released_files, ("environment",), ("s3:ListBucket", "s3:GetObject", "kms:Decrypt")),
)
EXECUTION_ROLE = (
    Check("execution role", _execution_role, ("environment", "connection"), ("iam:SimulatePrincipalPolicy",)),
)
ALERT = (
    Check("alert function", _alert_function, ("credentials",), ("lambda:GetFunctionConfiguration",)),
    Check("alert topic", _alert_topic, ("alert function",), ("sns:ListSubscriptionsByTopic",)),
)
