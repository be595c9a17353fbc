"""The pipelines of pipelines.yml, validated."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from croniter import croniter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

# Airflow's own rule for the key of a DAG, and one that is safe as a folder's name.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,200}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_$\-]{0,126}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _cron(text: str) -> str:
    # Airflow's own names, such as @daily, are cron expressions to croniter, too.
    if not croniter.is_valid(text):
        raise ValueError("must be a cron expression of five fields, such as '0 6 * * *'")
    return text


Cron = Annotated[str, AfterValidator(_cron)]


class PipelineError(Exception):
    """A pipeline cannot be made. Its text names the file or setting to change."""


class Pipeline(BaseModel):
    """One entry of pipelines.yml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dag_name: Key = Field(description="Name of the DAG, and of the asset that a successful run updates.")
    project_name: Key = Field(description="Folder of the dbt project under DBT_PROJECT_PATH.")
    redshift_connection_id: Key = Field(description="Airflow connection that holds host, port and database.")
    target_database: Identifier = Field(description="Redshift database that dbt builds in.")
    target_schema: Identifier = Field(description="Schema that dbt builds in; the audit table lives there too.")
    secret_name: Text | None = Field(
        None, description="Secrets Manager secret {username, password}; without it the connection's own login is used."
    )
    sns_lambda_function_name: Text | None = Field(
        None, description="Lambda function that a failed run invokes; without it there is no alert."
    )
    schedule: Cron | None = Field(None, description="Cron expression in UTC, or null.")
    start_date: date = Field(date(2026, 1, 1), description="First day that the schedule holds for.")
    owner: Text = Field("airflow", description="Owner shown in Airflow.")
    tags: tuple[Text, ...] = Field((), description="Tags shown in Airflow, besides dbt.")
    threads: int = Field(4, ge=1, le=32, description="Models that dbt builds at once.")
    retries: int = Field(1, ge=0, le=10, description="Further tries of a failed model or test.")
    retry_delay_seconds: int = Field(30, ge=0, le=3600, description="Seconds between two tries.")


def load_pipelines(path: Path) -> list[Pipeline]:
    """Read and validate the pipelines of a YAML file.

    Raises:
        PipelineError: the file is missing, is not YAML, or an entry does not fit; the text names file, entry and key.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; it lists the pipelines") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("pipelines"), list) or not content["pipelines"]:
        raise PipelineError(f"{path} must hold a list under the key 'pipelines', with one entry or more")
    unknown = sorted(set(content) - {"defaults", "pipelines"})
    defaults = content.get("defaults") or {}
    if unknown or not isinstance(defaults, dict):
        raise PipelineError(
            f"{path} may hold 'defaults' (a mapping) and 'pipelines' (a list) only; found {sorted(content)}"
        )

    pipelines = [_pipeline(path, number, entry, defaults) for number, entry in enumerate(content["pipelines"], start=1)]
    names = [pipeline.dag_name for pipeline in pipelines]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PipelineError(f"{path}: dag_name must be unique; {', '.join(twice)} stands there more than once")
    return pipelines


def _pipeline(path: Path, number: int, entry: Any, defaults: dict[str, Any]) -> Pipeline:
    name = entry.get("dag_name", f"number {number}") if isinstance(entry, dict) else f"number {number}"
    if not isinstance(entry, dict):
        raise PipelineError(f"{path}: pipeline {name} must be a mapping of settings, not {entry!r}")
    try:
        return Pipeline.model_validate({**defaults, **entry})
    except ValidationError as error:
        problems = "; ".join(_problem(detail) for detail in error.errors())
        raise PipelineError(f"{path}: pipeline {name}: {problems}") from None


def _problem(detail: Any) -> str:
    key = ".".join(map(str, detail["loc"]))
    # A missing key is not "found": pydantic's input is the whole entry then.
    found = "" if detail["type"] == "missing" else f" (found {detail['input']!r})"
    if detail["type"] == "extra_forbidden":
        return f"{key}: there is no such setting; there are {', '.join(Pipeline.model_fields)}"
    return f"{key}: {detail['msg']}{found}"
