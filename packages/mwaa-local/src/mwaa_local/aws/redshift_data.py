"""Answers the calls of the Redshift Data API that run one statement: each runs on the local warehouse, in a thread.

moto returns the same rows for every statement. The only login is a secret with username and password. Every cluster and
workgroup is the local warehouse.
https://docs.aws.amazon.com/redshift-data/latest/APIReference/Welcome.html (read 2026-11)
"""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import botocore.session
import redshift_connector
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from werkzeug.wrappers import Request, Response

from audit_report.redshift import error_text
from mwaa_local.aws import calls
from mwaa_local.aws.seed import client
from mwaa_local.settings import HOST, Settings


class _RefusedError(Exception):
    def __init__(self, kind: str, message: str, **members: str) -> None:
        super().__init__(message)
        body = {"__type": kind, "Message": message, **members}
        self.response = Response(json.dumps(body), 400, {"Content-Type": "application/x-amz-json-1.1"})


@dataclass
class _Statement:
    """A statement: its call, and its result once it has ended."""

    call: dict[str, Any]
    created_at: float = field(default_factory=time.time)
    status: str = "STARTED"
    error: str = ""
    columns: list[str] | None = None
    rows: list[Any] = field(default_factory=list)


class RedshiftData:
    """The statements of one stand-in."""

    def __init__(self, settings: Settings) -> None:
        """`settings` have the ports of the warehouse and of this stand-in."""
        self._settings = settings
        self._model = botocore.session.Session().get_service_model("redshift-data")
        self._statements: dict[str, _Statement] = {}
        self._calls: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ExecuteStatement": self._execute,
            "DescribeStatement": self._describe,
            "GetStatementResult": self._result,
        }

    def answer(self, request: Request, region: str) -> Response:
        """Return the answer to a call of the service `redshift-data`."""
        call = calls.read(request, "redshift-data", region)
        try:
            content = self._perform(call.operation, call.parameters)
        except _RefusedError as refused:
            return refused.response
        return Response(json.dumps(content), 200, {"Content-Type": "application/x-amz-json-1.1"})

    def _perform(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if operation not in self._calls:
            raise _RefusedError("ValidationException", f"the AWS stand-in does not support {operation}")
        report = ParamValidator().validate(parameters, self._model.operation_model(operation).input_shape)
        if report.has_errors():
            raise _RefusedError("ValidationException", report.generate_report())
        return self._calls[operation](parameters)

    def _execute(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if "SecretArn" not in parameters or "Database" not in parameters:
            raise _RefusedError("ValidationException", "the AWS stand-in needs SecretArn and Database")
        try:
            secret = client(self._settings, "secretsmanager").get_secret_value(SecretId=parameters["SecretArn"])
        except ClientError as error:
            raise _RefusedError("ValidationException", error.response["Error"]["Message"]) from None
        number, statement = str(uuid.uuid4()), _Statement(parameters)
        self._statements[number] = statement
        threading.Thread(target=self._run, args=(statement, json.loads(secret["SecretString"])), daemon=True).start()
        return {"Id": number, "CreatedAt": statement.created_at, **_warehouse(statement)}

    def _run(self, statement: _Statement, login: dict[str, Any]) -> None:
        values = {parameter["name"]: parameter["value"] for parameter in statement.call.get("Parameters", [])}
        try:
            with contextlib.closing(
                redshift_connector.connect(
                    host=HOST,
                    port=self._settings.warehouse_port,
                    database=statement.call["Database"],
                    user=login["username"],
                    password=login["password"],
                    ssl=False,
                    timeout=60,
                )
            ) as connection:
                connection.autocommit = True
                cursor = connection.cursor()
                # Parameters are named, such as :dag_name.
                cursor.paramstyle = "named"
                cursor.execute(statement.call["Sql"], values)
                if cursor.description is not None:
                    statement.columns = [column[0] for column in cursor.description]
                    statement.rows = list(cursor.fetchall())
            statement.status = "FINISHED"
        except redshift_connector.Error as error:
            statement.error, statement.status = f"ERROR: {error_text(error)}", "FAILED"
        except Exception as error:  # noqa: BLE001 - such as a parameter without a value, which fails the statement
            statement.error, statement.status = f"ERROR: {error!r}", "FAILED"

    def _find(self, parameters: dict[str, Any]) -> _Statement:
        if statement := self._statements.get(parameters["Id"]):
            return statement
        raise _RefusedError("ResourceNotFoundException", "Query does not exist.", ResourceId=parameters["Id"])

    def _describe(self, parameters: dict[str, Any]) -> dict[str, Any]:
        statement = self._find(parameters)
        # First, because the thread sets it last.
        status = statement.status
        description = {
            "Id": parameters["Id"],
            "CreatedAt": statement.created_at,
            "Status": status,
            "QueryString": statement.call["Sql"],
            "HasResultSet": statement.columns is not None,
            "ResultRows": len(statement.rows) if status == "FINISHED" else -1,
            **_warehouse(statement),
        }
        return description | ({"Error": statement.error} if status == "FAILED" else {})

    def _result(self, parameters: dict[str, Any]) -> dict[str, Any]:
        statement = self._find(parameters)
        if statement.status != "FINISHED" or statement.columns is None:
            # https://github.com/ballerina-platform/module-ballerinax-aws.redshiftdata tests for this message.
            message = "Query does not have result. Please check query status with DescribeStatement."
            raise _RefusedError("ResourceNotFoundException", message, ResourceId=parameters["Id"])
        return {
            "ColumnMetadata": [{"name": name, "label": name} for name in statement.columns],
            "Records": [[_field(value) for value in row] for row in statement.rows],
            "TotalNumRows": len(statement.rows),
        }


def _warehouse(statement: _Statement) -> dict[str, str]:
    names = ("ClusterIdentifier", "WorkgroupName", "Database", "SecretArn")
    return {name: statement.call[name] for name in names if name in statement.call}


def _field(value: Any) -> dict[str, Any]:
    """Return a value as the API's type Field. Dates and decimal numbers are strings."""
    if value is None:
        return {"isNull": True}
    kinds = {bool: "booleanValue", int: "longValue", float: "doubleValue"}
    kind = kinds.get(type(value))
    return {kind: value} if kind else {"stringValue": str(value)}
