"""Deploys the function of infra/monitoring.yml to the AWS stand-in, and invokes it as EventBridge does."""

import json
from pathlib import Path
from typing import Any

from mwaa_local.aws import roles, seed
from mwaa_local.settings import ACCOUNT_ID, REGION, REPOSITORY, Settings
from mwaa_local.templates import Template
from mwaa_release.build import zip_functions
from mwaa_release.overdue_runs import MEMORY

FUNCTION = "overdue_runs"
# `roles.make` names it after the file and the logical id.
ROLE = "monitoring-Role"
WORKGROUP = f"arn:aws:redshift-serverless:{REGION}:{ACCOUNT_ID}:workgroup/0f1e2d3c-0000-4000-8000-000000000000"


def deploy_overdue_runs(settings: Settings, folder: Path) -> None:
    """Deploy the function to a stand-in after `seed`, with the role of the stack. `folder` is for its code."""
    values = {"KeyArn": seed.key_arn(settings), "DagsBucketName": seed.DAGS_BUCKET, "WorkgroupArn": WORKGROUP}
    values |= {"SecretName": seed.dbt_secret(), "Logs.Arn": f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:overdue:*"}
    role = roles.make(seed.client(settings, "iam"), "monitoring.yml", **values)["Role"]
    template = Template("monitoring.yml", values | {"Role.Arn": role})
    properties = template.evaluate(template.content["Resources"]["Function"]["Properties"])
    zip_functions(REPOSITORY / "lambda", folder / "lambda.zip")
    names = ("FunctionName", "Runtime", "Handler", "Role", "Timeout", "Environment")
    seed.client(settings, "lambda").create_function(
        **{name: properties[name] for name in names}, Code={"ZipFile": (folder / "lambda.zip").read_bytes()}
    )


def check(settings: Settings) -> tuple[bool, Any]:
    """Invoke the function. Return whether it failed, and its result or error."""
    response = seed.client(settings, "lambda").invoke(
        FunctionName=FUNCTION, Payload=json.dumps({"source": "aws.events"})
    )
    return "FunctionError" in response, json.loads(response["Payload"].read())


def write_memory(settings: Settings, memory: dict[str, dict[str, str]]) -> None:
    """Replace the memory of earlier checks."""
    seed.client(settings, "s3").put_object(Bucket=seed.DAGS_BUCKET, Key=MEMORY, Body=json.dumps(memory).encode())
