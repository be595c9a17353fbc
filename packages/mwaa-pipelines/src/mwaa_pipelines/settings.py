"""The settings of a pipeline as a typed model. `python -m mwaa_pipelines.settings` prints their JSON schema."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Collection
from datetime import date, timedelta
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    model_validator,
)

from mwaa_pipelines.ecs_settings import Ecs
from mwaa_pipelines.errors import PipelineError as PipelineError
from mwaa_pipelines.serverless_settings import Serverless
from mwaa_pipelines.setting_types import (
    EXTERNAL,
    Bucket,
    CopyRole,
    Delimiter,
    EnvironmentVariable,
    Identifier,
    Key,
    Prefix,
    Schedule,
    Selector,
    Table,
    Text,
    TimeZone,
    WebAddress,
)

# The key of an entry, or of the defaults, with settings by environment.
ENVIRONMENTS = "environments"
NAME = r"[A-Za-z0-9_\-]+"
# They identify a pipeline and its release, so they are the same in every environment.
IDENTITY = ("dag_name", "project_name")


class LoadedTable(BaseModel):
    """An entry of `load:`: a table, and the files in S3 that are loaded into it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Table = Field(description="Schema and table, such as landing.orders. The table must exist.")
    prefix: Prefix = Field(description="Beginning of the keys of the table's files, with a slash at the end.")
    format: Literal["csv", "json", "parquet"] = Field(
        description="csv: with a header line; json: one object in each line; parquet: columns in the table's order. "
        "Files of the first two whose keys end with .gz or .bz2 are compressed."
    )
    bucket: Bucket | None = Field(None, description="Default: the bucket of Airflow's option dbt.landing_bucket.")
    new_columns: Literal["fail", "add"] = Field(
        "fail",
        description="What to do with a file that has columns that the table lacks. add: add them, as varchar(65535).",
    )
    delimiter: Delimiter | None = Field(None, description="Between the fields of a csv file. Default: a comma.")
    null_as: Text | None = Field(None, description="Text in a csv file that means null, such as NA.")
    date_format: Text = Field("auto", description="Format of dates, as in COPY.")
    time_format: Text = Field("auto", description="Format of timestamps, as in COPY.")

    @model_validator(mode="after")
    def _options_fit_format(self) -> "LoadedTable":
        for name in ("delimiter", "null_as"):
            if self.format != "csv" and getattr(self, name) is not None:
                raise ValueError(f"{name} needs format: csv. Remove it")
        # COPY matches the columns of Parquet files by their positions.
        if self.format == "parquet" and self.new_columns == "add":
            raise ValueError("new_columns: add needs format: csv or json. Remove it, and add columns to the table")
        return self


class Pipeline(BaseModel):
    """One entry of pipelines.yml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dag_name: Key = Field(description="Name of the DAG, and of the asset that a successful run updates.")
    project_name: Key = Field(description="Folder of the dbt project under DBT_PROJECT_PATH.")
    redshift_connection_id: Key = Field(
        description="Airflow connection with host, port and database. Pipelines can share it if they share the dbt "
        "project, database, schema and secret; they take turns then."
    )
    target_database: Identifier = Field(description="Redshift database that dbt builds in.")
    target_schema: Identifier = Field(description="Schema that dbt builds in. It also contains the audit table.")
    secret_name: Text | None = Field(
        None,
        description="Secrets Manager secret {username, password}, shared like the connection. Without it, dbt logs in "
        "with the connection's login or with IAM.",
    )
    sns_lambda_function_name: Text | None = Field(
        None, description="Lambda function that sends alerts. Without it, no alerts are sent."
    )

    schedule: Schedule = Field(
        None,
        description="Cron expression; or a list of assets, which starts a run when all are updated; or null. An asset "
        "is the name of a pipeline; or a public model, such as shop.orders; or external:NAME for an "
        "asset of other DAGs.",
    )
    timezone: TimeZone = Field("UTC", description="Time zone of schedule and start_date.")
    start_date: date = Field(date(2026, 1, 1), description="First day of the schedule.")
    catchup: bool = Field(False, description="Start a run for each scheduled time since start_date that was missed.")
    owner: Text = Field("airflow", description="Owner shown in Airflow.")
    tags: tuple[Text, ...] = Field((), description="Tags shown in Airflow, in addition to dbt.")

    links: dict[Text, WebAddress] = Field(
        {}, description="Links in the DAG's documentation by their text, such as the address of the audit report."
    )

    select: tuple[Selector, ...] = Field(
        (), description="dbt selectors of the nodes to build. An empty list builds all nodes."
    )
    exclude: tuple[Selector, ...] = Field((), description="dbt selectors of the nodes to leave out.")
    selector: Selector | None = Field(
        None,
        description="Name of a selector in the dbt project's selectors.yml, instead of select and exclude. "
        "It must leave out tag:audit and tag:audit_view.",
    )
    vars: dict[Identifier, JsonValue] = Field(
        {},
        description="dbt variables. They cannot change which nodes exist, because the manifest is built without them.",
    )
    env: dict[EnvironmentVariable, str] = Field(
        {},
        description="Environment variables for dbt's env_var(), also when a release is built. Not for secrets: "
        "everyone who can read the repository or Airflow sees the values.",
    )
    secret_env: dict[EnvironmentVariable, Text] = Field(
        {},
        description="Secrets Manager secrets, by the environment variable for dbt's env_var(). A task reads them when "
        "it runs. If a model uses a value, it is in the compiled SQL.",
    )
    load: tuple[LoadedTable, ...] = Field(
        (), description="Tables to load before dbt runs: new files in S3 are copied into them, each file once."
    )
    copy_role: CopyRole = Field(
        "default",
        description="IAM role of the warehouse that reads the files: its default role, an ARN, or a chain of ARNs.",
    )
    source_freshness: Literal["ignore", "measure", "require"] = Field(
        "ignore",
        description="measure: a task measures the sources with a freshness before the models; a stale source is a "
        "warning. require: a source that is older than its error_after ends the run. The task is one more dbt process.",
    )
    threads: int = Field(4, ge=1, le=32, description="Number of models that dbt builds in parallel.")
    execution_mode: Literal["watcher", "local", "ecs", "serverless"] = Field(
        "watcher",
        description="watcher: one dbt process builds all nodes (fastest); local: one dbt process for each task; ecs: "
        "as watcher, but the process runs in a task of ECS and not on a worker. Needs Airflow 3.3 or newer; "
        "serverless: a workflow of Amazon MWAA Serverless instead of a DAG.",
    )
    ecs: Ecs | None = Field(
        None,
        description="Cluster and size of the task, with execution_mode ecs. With serverless, dbt runs in such a task "
        "and not on the service's worker.",
    )
    serverless: Serverless = Field(Serverless(), description="Tasks of the workflow, with execution_mode serverless.")
    test_behavior: Literal["after_each", "build", "none"] = Field(
        "after_each",
        description="after_each: a separate task for each model's tests; build: tests run in the model's task "
        "(execution_mode local only); none: no tests.",
    )
    warnings: Literal["ignore", "alert"] = Field(
        "ignore",
        description="alert: send an alert when a test warns or a source is stale. The run still succeeds.",
    )
    rows_change_percent: int | None = Field(
        None,
        ge=1,
        description="Send an alert when an incremental model, a snapshot, a seed or a loaded table got this many "
        "percent more or fewer rows than the last time. Not compared: backfills, full refreshes, runs that load chosen "
        "files, loads without new files.",
    )
    retries: int = Field(1, ge=0, le=10, description="Number of retries of a failed model or test.")
    retry_delay_seconds: int = Field(30, ge=0, le=3600, description="Seconds to wait before a retry.")
    task_timeout_minutes: int | None = Field(
        None,
        ge=1,
        le=10080,
        description="Time limit of one dbt task. With execution_mode watcher, one task is the whole build.",
    )
    run_timeout_minutes: int | None = Field(
        None, ge=1, le=10080, description="Time limit of a run. A run that exceeds it fails, and an alert is sent."
    )
    deadline_minutes: int | None = Field(
        None,
        ge=1,
        le=10080,
        description="Send an alert when a run is not finished this long after it was queued. The run continues. "
        "Needs Airflow 3.1 or newer.",
    )
    overdue_minutes: int = Field(
        120,
        ge=1,
        le=10080,
        description="Send an alert when no run has succeeded this long after its scheduled time, or after the last of "
        "its upstream pipelines. Sent from outside of Airflow, by infra/monitoring.yml.",
    )

    # Set by config_file if the entry has settings for environments.
    _environment: str | None = PrivateAttr(None)
    # Set by config_file if other entries share the schema.
    _turns: tuple[str, ...] = PrivateAttr(())

    @property
    def environment(self) -> str | None:
        """The environment that these settings are for; None if they are the same everywhere."""
        return self._environment

    @property
    def turns(self) -> tuple[str, ...]:
        """Names of the pipelines that build in this one's schema and take turns, itself included; or none."""
        return self._turns

    @property
    def scheduled_on_assets(self) -> bool:
        """Whether updates of assets start the runs, not a cron expression."""
        return isinstance(self.schedule, tuple)

    @property
    def is_workflow(self) -> bool:
        """Whether the pipeline is a workflow of Amazon MWAA Serverless and not a DAG."""
        return self.execution_mode == "serverless"

    @property
    def assets(self) -> tuple[str, ...]:
        """Names of the assets whose updates start the runs."""
        return tuple(name.removeprefix(EXTERNAL) for name in self.schedule) if self.scheduled_on_assets else ()

    @property
    def task_timeout(self) -> timedelta | None:
        """Time limit of one dbt task."""
        return timedelta(minutes=self.task_timeout_minutes) if self.task_timeout_minutes else None

    @property
    def run_timeout(self) -> timedelta | None:
        """Time limit of a run."""
        return timedelta(minutes=self.run_timeout_minutes) if self.run_timeout_minutes else None

    @model_validator(mode="after")
    def _env_has_no_secrets(self) -> "Pipeline":
        if secrets := [name for name in self.env if name.startswith("DBT_ENV_SECRET_")]:
            raise ValueError(f"env: {secrets[0]} is a secret by its name, but everyone can read env. Use secret_env")
        if both := sorted(set(self.env) & set(self.secret_env)):
            raise ValueError(f"secret_env: {both[0]} is also in env. Remove one of them")
        return self

    @model_validator(mode="after")
    def _each_table_is_loaded_once(self) -> "Pipeline":
        counts = Counter(table.table for table in self.load)
        if several := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"load: {several[0]} has {counts[several[0]]} entries. Keep one of them")
        for outer in self.load:
            for inner in self.load:
                if inner is not outer and inner.bucket == outer.bucket and inner.prefix.startswith(outer.prefix):
                    raise ValueError(
                        f"load: the files of {inner.table} ({inner.prefix}) would be loaded into {outer.table}, too "
                        f"({outer.prefix}). Change one prefix"
                    )
        return self

    @model_validator(mode="after")
    def _alerts_can_be_sent(self) -> "Pipeline":
        for name in ("deadline_minutes", "rows_change_percent"):
            if getattr(self, name) and not self.sns_lambda_function_name:
                raise ValueError(f"{name} needs sns_lambda_function_name, which sends the alert")
        return self

    @model_validator(mode="after")
    def _deadline_can_be_met(self) -> "Pipeline":
        if self.deadline_minutes and self.run_timeout_minutes and self.deadline_minutes >= self.run_timeout_minutes:
            raise ValueError("deadline_minutes must be less than run_timeout_minutes, which ends the run")
        return self

    @model_validator(mode="after")
    def _selector_stands_alone(self) -> "Pipeline":
        if self.selector and (self.select or self.exclude):
            raise ValueError("selector cannot be combined with select or exclude, because dbt ignores them beside it")
        if self.selector and self.test_behavior == "build":
            raise ValueError("selector cannot be combined with test_behavior: build. Use after_each or none")
        return self

    @model_validator(mode="after")
    def _test_behavior_fits_execution_mode(self) -> "Pipeline":
        if self.test_behavior == "build" and self.execution_mode != "local":
            raise ValueError("test_behavior: build needs execution_mode: local. With watcher, use after_each or none")
        return self

    @model_validator(mode="after")
    def _ecs_has_cluster(self) -> "Pipeline":
        if self.execution_mode == "ecs" and not self.ecs:
            raise ValueError("execution_mode: ecs needs the setting ecs, such as ecs: {cluster: shop-dbt}")
        return self


def did_you_mean(value: str, known: Collection[str]) -> str:
    """Return a question with the known name that is most like a wrong one, to append to a message; or nothing."""
    matches = difflib.get_close_matches(value, sorted(known), n=1)
    return f". Did you mean {matches[0]!r}?" if matches else ""


def describe_error(detail: Any) -> str:
    """Return one line about an error that pydantic found in a setting: its key, the rule and the value."""
    # For a union such as schedule, the last part of the location is the name of one of its types.
    key = ".".join(str(part) for part in detail["loc"] if not str(part).startswith(("function-", "tuple[")))
    if detail["type"] == "extra_forbidden":
        return unknown_setting(key)
    message = detail["msg"].removeprefix("Value error, ")
    if not key:
        return message
    # If a key is missing, or keys contradict each other, pydantic's input is the whole entry.
    if detail["type"] == "missing" or (detail["type"] == "value_error" and isinstance(detail["input"], dict)):
        return f"{key}: {message}"
    choices = re.findall(r"'([^']*)'", detail["ctx"]["expected"]) if detail["type"] == "literal_error" else []
    return f"{key}: {message} (value: {detail['input']!r}){did_you_mean(str(detail['input']), choices)}"


def unknown_setting(name: str) -> str:
    """Return the message about a key that is not a setting. Of a key in a table of `load`, `name` is `load.0.key`."""
    *entry, key = name.split(".")
    models = {"load": LoadedTable, "ecs": Ecs, "serverless": Serverless}
    names = list(models[entry[0]].model_fields) if entry else [*Pipeline.model_fields, ENVIRONMENTS]
    question = did_you_mean(key, names)
    return f"{name}: unknown setting{question or f'. Settings: {", ".join(names)}'}"


def json_schema() -> str:
    """Return the JSON schema of pipelines.yml, which editors use for completion."""
    entry = Pipeline.model_json_schema()
    overlay = {name: setting for name, setting in entry["properties"].items() if name not in IDENTITY}
    entry["properties"][ENVIRONMENTS] = {
        "type": "object",
        "description": "Settings by environment, such as dev and prod. They override the settings of all entries and "
        "defaults. Airflow's option dbt.environment names the environment.",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{NAME}$"},
        "additionalProperties": {"type": ["object", "null"], "additionalProperties": False, "properties": overlay},
    }
    # The environments can set the others.
    entry["required"] = list(IDENTITY)
    defaults = {"type": "object", "additionalProperties": False, "properties": entry["properties"]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipelines.yml",
        "type": "object",
        "additionalProperties": False,
        "required": ["pipelines"],
        "properties": {
            "defaults": {**defaults, "description": "Default settings of all pipelines."},
            "pipelines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Pipeline"}},
        },
        "$defs": {**entry.pop("$defs", {}), "Pipeline": entry},
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
