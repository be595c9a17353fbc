"""What the runner has to do. Airflow writes it to S3 as JSON, and the runner reads it. It contains no secret."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from mwaa_pipelines.errors import PipelineError

# Increase it with each change that an earlier runner would misunderstand.
FORMAT = 3


@dataclass(frozen=True)
class Job:
    """One dbt command.

    Args:
        dag_id, run_id, task_id, try_number: the task in Airflow that waits for the result.
        projects: parent of all dbt projects, `s3://bucket/dags/dbt` or a local folder.
        project_name: the dbt project.
        release_id: its release; None: the one that CURRENT names.
        command: dbt's arguments, without those about profile and folders: `["build", "--select", "tag:mart"]`.
        environment: variables for dbt.
        conn_id: Airflow connection of the warehouse.
        connection_secret: secret with this connection.
        secret_name: secret with username and password; None if the connection has them.
        secret_env: further secrets, by the environment variable for dbt.
        profile_args: keys of the dbt profile, `schema` among them.
        watched_together: nodes that one task of Airflow watches, see `NodeOutcomes`; None: no task watches nodes.
        kept_results: `s3://bucket/prefix` for results that dbt could not write to the audit table; empty: none.
        parsed: `s3://bucket/key` that keeps dbt's parsed project for the next task of the release, and with .zip its
            files; empty: none.
        freshness_is_required: with `dbt source freshness`, whether a stale source is an error; None: another command.
        memory: MiB that the task may use, for messages; None: no limit is known.
        selected_ids: ids of nodes by the selector for them in `command`, see `state_arguments`.
    """

    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    projects: str
    project_name: str
    release_id: str | None
    command: list[str]
    conn_id: str
    connection_secret: str
    secret_name: str | None
    profile_args: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    secret_env: dict[str, str] = field(default_factory=dict)
    watched_together: dict[str, list[str]] | None = field(default_factory=dict)
    kept_results: str = ""
    parsed: str = ""
    freshness_is_required: bool | None = None
    memory: int | None = None
    selected_ids: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the job as the runner reads it."""
        return json.dumps({"format": FORMAT, **asdict(self)}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Job":
        """Read a job.

        Raises:
            PipelineError: this runner cannot read it.
        """
        try:
            values = json.loads(content)
            if (job_format := values.pop("format")) == FORMAT:
                return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PipelineError(f"the job cannot be read ({type(error).__name__}: {error})") from None
        raise PipelineError(
            f"this image reads jobs of format {FORMAT}, but the release in Airflow writes format {job_format}. Build "
            "the image from the commit of the release"
        )
