"""Creates what the stack infra/workflow.yml creates for a pipeline, with the stack's own properties."""

import contextlib
from typing import Any

from mwaa_local.aws import roles, seed
from mwaa_local.settings import ACCOUNT_ID, ENVIRONMENT, REGION, Settings
from mwaa_local.templates import Template
from mwaa_pipelines.settings import Pipeline

STACK = "workflow.yml"
_RELEASE_ROLE = seed.RELEASE_ROLE_ARN.rpartition("/")[2]


def seed_workflow(settings: Settings, pipeline: Pipeline, release_role: str = _RELEASE_ROLE) -> str:
    """Create or update role, log group and parameter of a workflow. Call `seed.seed` before.

    Args:
        settings: of the stand-in.
        pipeline: of the workflow.
        release_role: name of the role that releases it.

    Returns:
        The role's ARN.

    Raises:
        botocore.exceptions.ClientError: the stand-in refused a call.
    """
    values = {**_values(settings, pipeline), "ReleaseRoleName": release_role}
    template = Template(STACK, values)
    iam, logs, ssm = (seed.client(settings, service) for service in ("iam", "logs", "ssm"))
    with contextlib.suppress(iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException):
        # As an administrator does, once in an account.
        iam.create_service_linked_role(AWSServiceName="airflow-serverless.amazonaws.com")
    if not logs.describe_log_groups(logGroupNamePrefix=values["Logs"])["logGroups"]:
        logs.create_log_group(logGroupName=values["Logs"])
    role = roles.make(iam, STACK, **values)["Role"]
    roles.add_policies(iam, STACK, **values)
    parameter = template.evaluate(template.content["Resources"]["Settings"]["Properties"])
    ssm.put_parameter(Name=parameter["Name"], Value=parameter["Value"], Type=parameter["Type"], Overwrite=True)
    return role


def _values(settings: Settings, pipeline: Pipeline) -> dict[str, Any]:
    role = f"{ENVIRONMENT}-workflow-{pipeline.dag_name}"
    group = f"/workflows/{ENVIRONMENT}/{pipeline.dag_name}"
    return {
        "DagName": pipeline.dag_name,
        "ProjectName": pipeline.project_name,
        "KeyArn": seed.key_arn(settings),
        "DagsBucketName": seed.DAGS_BUCKET,
        "ConnectionId": pipeline.redshift_connection_id,
        "SecretName": pipeline.secret_name or "",
        "FunctionName": pipeline.sns_lambda_function_name or "",
        "Logs": group,
        "Logs.Arn": f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{group}:*",
        "Role": role,
        "Role.Arn": f"arn:aws:iam::{ACCOUNT_ID}:role/{role}",
        "ClusterName": pipeline.ecs.cluster if pipeline.ecs else "",
        "TaskDefinition": (pipeline.ecs.task_definition or "") if pipeline.ecs else "",
    }
