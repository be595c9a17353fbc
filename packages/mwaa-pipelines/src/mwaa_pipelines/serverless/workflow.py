"""What the tasks of a workflow do. A release contains it as JSON, beside the definition, which has at most 50 KB."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.stream import split_url

# Folder in a release, with <name>.yaml and <name>.json of each workflow.
FOLDER = "workflows"
# In it: the key of the code package in the bucket.
CODE_FILE = f"{FOLDER}/CODE"
# The variables of a workflow. They differ between buckets and releases, so the definition does not contain them.
NAME = "DBT_WORKFLOW"
RELEASE = "DBT_RELEASE"
PROJECTS = "DBT_PROJECTS"
KEPT_RESULTS = "DBT_KEPT_RESULTS"
CONNECTIONS_PREFIX = "airflow/connections"
# The XCom with Airflow's id of the run, which the audit rows have. The service has ids of its own.
RUN_KEY = "airflow_run_id"
# The folder of the code package with dbt's packages, beside the module with the functions of the tasks.
DBT_FOLDER = "dbt_environment"
# Between a task and the process that runs dbt.
JOB_FILE, OUTCOME_FILE = "job.json", "outcome.json"


@dataclass(frozen=True)
class Workflow:
    """A pipeline as its tasks see it.

    Args:
        dag_name: the pipeline.
        project_name: its dbt project.
        conn_id: Airflow connection of the warehouse.
        secret_name: secret with username and password; None if the connection has them.
        secret_env: further secrets, by the environment variable for dbt.
        profile_args: keys of the dbt profile, `schema` among them.
        environment: variables for dbt.
        commands: dbt's arguments by task id.
        ecs: the setting `ecs`; None: dbt runs on the service's workers.
    """

    dag_name: str
    project_name: str
    conn_id: str
    secret_name: str | None
    secret_env: dict[str, str] = field(default_factory=dict)
    profile_args: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    ecs: dict[str, Any] | None = None

    def to_json(self) -> bytes:
        """Return it as a release contains it."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()


def read_workflow(s3_client: Any, projects: str, project_name: str, release_id: str, name: str) -> Workflow:
    """Return a workflow of a release in S3.

    Args:
        s3_client: boto3 client.
        projects: `s3://bucket/prefix`, the parent of all dbt projects.
        project_name: the dbt project.
        release_id: the release.
        name: of the file, without its ending.

    Raises:
        PipelineError: it cannot be read.
    """
    bucket, prefix = split_url(projects)
    key = f"{prefix}/{project_name}/{release_id}/{FOLDER}/{name}.json"
    try:
        content = s3_client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3_client.exceptions.NoSuchKey:
        raise PipelineError(
            f"s3://{bucket}/{key} is missing. The bucket keeps the last releases of a project. Start another run"
        ) from None
    except (BotoCoreError, ClientError) as error:
        raise PipelineError(f"s3://{bucket}/{key} cannot be read: {error}") from None
    return Workflow(**json.loads(content))
