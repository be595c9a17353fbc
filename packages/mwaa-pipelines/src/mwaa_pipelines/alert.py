"""The payload of an alert, which pipelines send to the Lambda function of lambda/handler.py.

`python -m mwaa_pipelines.alert` prints its JSON schema, which is kept in lambda/alert.schema.json.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.json_schema import GenerateJsonSchema

# Not blank.
_Name = Annotated[str, StringConstraints(pattern=r"\S")]
_WholeNumber = Annotated[int, Field(gt=-1e15, lt=1e15)]
_Number = Annotated[float, Field(gt=-1e15, lt=1e15, allow_inf_nan=False)]
_LINE_CHARACTERS = 120


class AlertNode(BaseModel):
    """A dbt node or an Airflow task that failed or warned."""

    model_config = ConfigDict(strict=True)

    unique_id: _Name = Field(description="The node's unique_id in dbt, or the task's id in Airflow.")
    status: str | None = Field(None, description="The status that dbt or Airflow reported, such as error.")
    message: str | None = Field(None, description="The first line of the error message.")
    try_number: _WholeNumber | None = Field(None, description="The try that the status belongs to.")
    execution_time: _Number | None = Field(None, description="Seconds.")


class Alert(BaseModel):
    """An alert about a run. `dag_name` alone is enough; the receiver ignores unknown keys."""

    model_config = ConfigDict(strict=True)

    dag_name: _Name = Field(description="The pipeline.")
    run_id: str | None = Field(None, description="The run's id in Airflow.")
    logical_date: str | None = Field(
        None, description="The run's logical date, or when an overdue run was due, in ISO format."
    )
    release_id: str | None = Field(None, description="The release that the run used.")
    log_url: str | None = Field(None, description="Address of the log or the run in Airflow.")
    status: Literal["failed", "warned", "recovered", "late", "overdue"] | None = Field(
        None, description="Null means failed."
    )
    failed: list[AlertNode] | None = Field(None, description="Nodes and tasks that failed.")
    warned: list[AlertNode] | None = Field(None, description="Tests that warned.")
    again: bool | None = Field(None, description="Whether a run failed before this one.")
    last_success: str | None = Field(
        None, description="Logical date of the last successful run, or its time if it has none, in ISO format."
    )
    deadline_minutes: _WholeNumber | None = Field(None, description="The deadline of a late or overdue run.")

    def payload(self) -> str:
        """Return the payload as JSON, with the keys that were set."""
        return self.model_dump_json(exclude_unset=True)


def send_alert(function_name: str, alert: Alert) -> None:
    """Invoke the Lambda function that sends alerts, and wait for its result.

    Raises:
        RuntimeError: the function failed.
        botocore.exceptions.ClientError, BotoCoreError: the function could not be invoked.
    """
    # Imported here because parsing a DAG file does not need boto3.
    import boto3

    response = boto3.client("lambda").invoke(FunctionName=function_name, Payload=alert.payload())
    if response.get("FunctionError"):
        raise RuntimeError(f"the Lambda function {function_name} failed: {response['Payload'].read().decode()}")


class _ShortSchema(GenerateJsonSchema):
    """Writes `string or null` as one list of types, without titles that repeat the names, and without defaults."""

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        inner = self.generate_inner(schema["schema"])
        nullable = {**inner, "type": [inner["type"], "null"]}
        return nullable | {"enum": [*inner["enum"], None]} if "enum" in inner else nullable

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> str:
    """Return the JSON schema of the payload."""
    schema = Alert.model_json_schema(schema_generator=_ShortSchema)
    return _lines({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}) + "\n"


def _lines(value: Any, indent: str = "") -> str:
    """Return JSON in which each object has one line if it fits."""
    line = json.dumps(value)
    if not isinstance(value, dict) or len(indent + line) < _LINE_CHARACTERS:
        return line
    items = [f"{indent}  {json.dumps(key)}: {_lines(item, f'{indent}  ')}" for key, item in value.items()]
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"


if __name__ == "__main__":
    print(json_schema(), end="")
