"""The settings of a pipeline, as a typed model; `python -m mwaa_pipelines.settings` prints the JSON schema of them."""

import json
from datetime import date, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

# Airflow's own rule for the key of a DAG, and one that is safe as a folder's name.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,200}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_$\-]{0,126}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

# What both Cosmos and dbt select by. https://docs.getdbt.com/reference/node-selection/syntax
_METHOD = r"(?:path|tag|fqn|resource_type|source|exposure|package|config\.[a-z_.]+):"
_NODES = rf"(?:@|\d*\+)?(?:{_METHOD})?[\w./*][\w./*\-]*(?:\+\d*)?"
SELECTOR = rf"^{_NODES}(?:,{_NODES})*$"
Selector = Annotated[str, StringConstraints(pattern=SELECTOR)]


class PipelineError(Exception):
    """A pipeline cannot be made. Its text names the file or setting to change."""


def _cron(text: str) -> str:
    # Airflow's own names, such as @daily, are cron expressions to croniter, too.
    if not croniter.is_valid(text):
        raise ValueError("must be a cron expression of five fields, such as '0 6 * * *', or a list of assets")
    return text


def _schedule(value: Any) -> Any:
    # One message, where pydantic would have one for each kind of schedule.
    if not isinstance(value, str | list | tuple | None):
        # pydantic makes a ValidationError of this kind only.
        raise ValueError("must be a cron expression, a list of assets, or null")  # noqa: TRY004
    return value


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, LookupError, OSError):
        raise ValueError("must be a name of the IANA time zone database, such as Europe/Berlin") from None
    return text


Schedule = Annotated[
    Annotated[str, AfterValidator(_cron)] | Annotated[tuple[Key, ...], Field(min_length=1)] | None,
    BeforeValidator(_schedule),
]


class Pipeline(BaseModel):
    """One entry of pipelines.yml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dag_name: Key = Field(description="Name of the DAG, and of the asset that a successful run updates.")
    project_name: Key = Field(description="Folder of the dbt project under DBT_PROJECT_PATH.")
    redshift_connection_id: Key = Field(
        description="Airflow connection that holds host, port and database; no other pipeline may name it."
    )
    target_database: Identifier = Field(description="Redshift database that dbt builds in.")
    target_schema: Identifier = Field(description="Schema that dbt builds in; the audit table lives there too.")
    secret_name: Text | None = Field(
        None,
        description="Secrets Manager secret {username, password}, which no other pipeline may name; without it the "
        "connection's own login is used, or IAM.",
    )
    sns_lambda_function_name: Text | None = Field(
        None, description="Lambda function that a failed run invokes; without it there is no alert."
    )

    schedule: Schedule = Field(
        None,
        description="Cron expression; or a list of assets (names of pipelines), each of which must be new; or null.",
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "UTC", description="Time zone of schedule and start_date."
    )
    start_date: date = Field(date(2026, 1, 1), description="First day that the schedule holds for.")
    catchup: bool = Field(False, description="Run once for every time that the schedule missed since start_date.")
    owner: Text = Field("airflow", description="Owner shown in Airflow.")
    tags: tuple[Text, ...] = Field((), description="Tags shown in Airflow, besides dbt.")

    select: tuple[Selector, ...] = Field((), description="dbt selectors of what to build; all if there is none.")
    exclude: tuple[Selector, ...] = Field((), description="dbt selectors of what not to build.")
    vars: dict[Identifier, JsonValue] = Field(
        {}, description="dbt variables. The release's manifest is made without them: none may decide which nodes exist."
    )
    threads: int = Field(4, ge=1, le=32, description="Models that dbt builds at once.")
    execution_mode: Literal["watcher", "local"] = Field(
        "watcher", description="watcher: one dbt process builds all, the fastest; local: one for each task, isolated."
    )
    test_behavior: Literal["after_each", "build", "none"] = Field(
        "after_each",
        description="after_each: a model's tests are a task of their own; build: they are part of its task "
        "(local only); none: no tests.",
    )
    warnings: Literal["ignore", "alert"] = Field(
        "ignore", description="alert: a test that only warns sends an alert, too; the run succeeds all the same."
    )
    retries: int = Field(1, ge=0, le=10, description="Further tries of a failed model or test.")
    retry_delay_seconds: int = Field(30, ge=0, le=3600, description="Seconds between two tries.")
    task_timeout_minutes: int | None = Field(
        None,
        ge=1,
        le=10080,
        description="What dbt may take at most in one task; under watcher that is the whole build.",
    )
    run_timeout_minutes: int | None = Field(
        None, ge=1, le=10080, description="What a run may take at most; then it fails, and the alert is sent."
    )
    deadline_minutes: int | None = Field(
        None,
        ge=1,
        le=10080,
        description="What a run should take at most; then the alert says that it is late, and it goes on. From "
        "Airflow 3.1 on.",
    )

    @property
    def scheduled_on_assets(self) -> bool:
        """Whether it runs when assets are new, not at certain times."""
        return isinstance(self.schedule, tuple)

    @property
    def task_timeout(self) -> timedelta | None:
        """What dbt may take at most in one task."""
        return timedelta(minutes=self.task_timeout_minutes) if self.task_timeout_minutes else None

    @property
    def run_timeout(self) -> timedelta | None:
        """What a run may take at most."""
        return timedelta(minutes=self.run_timeout_minutes) if self.run_timeout_minutes else None

    @model_validator(mode="after")
    def _deadline_is_told(self) -> "Pipeline":
        if self.deadline_minutes and not self.sns_lambda_function_name:
            raise ValueError("deadline_minutes needs sns_lambda_function_name, which tells people")
        if self.deadline_minutes and self.run_timeout_minutes and self.deadline_minutes >= self.run_timeout_minutes:
            raise ValueError("deadline_minutes must be less than run_timeout_minutes, which ends the run")
        return self

    @model_validator(mode="after")
    def _tests_can_be_watched(self) -> "Pipeline":
        if self.test_behavior == "build" and self.execution_mode != "local":
            raise ValueError("test_behavior: build needs execution_mode: local; under watcher it is after_each or none")
        return self


def problem(detail: Any) -> str:
    """What is wrong with a setting, in one line: its key, the rule, and what was found."""
    # The last part of a schedule's key is the name of one of its kinds.
    key = ".".join(str(part) for part in detail["loc"] if not str(part).startswith(("function-", "tuple[")))
    if detail["type"] == "extra_forbidden":
        return f"{key}: there is no such setting; there are {', '.join(Pipeline.model_fields)}"
    said = detail["msg"].removeprefix("Value error, ")
    # A missing key is not "found": pydantic's input is the whole entry then.
    found = f" (found {detail['input']!r})" if key and detail["type"] != "missing" else ""
    return f"{key}: {said}{found}" if key else f"{said}"


def json_schema() -> str:
    """The JSON schema of pipelines.yml, for editors."""
    entry = Pipeline.model_json_schema()
    defaults = {"type": "object", "additionalProperties": False, "properties": entry["properties"]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipelines.yml",
        "type": "object",
        "additionalProperties": False,
        "required": ["pipelines"],
        "properties": {
            "defaults": {**defaults, "description": "Holds for every pipeline that does not say otherwise."},
            "pipelines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Pipeline"}},
        },
        "$defs": {**entry.pop("$defs", {}), "Pipeline": entry},
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
