"""The Redshift Data API of the AWS stand-in runs statements on the local warehouse and answers like AWS."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mwaa_local.testing.aws import running_aws
from redshift_local.pytest_plugin import Warehouse

WHERE = {"WorkgroupName": "any", "Database": "dev", "SecretArn": "login"}


@pytest.fixture(scope="module")
def data(redshift: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of the API."""
    with running_aws(tmp_path_factory.mktemp("data"), warehouse_port=redshift.port) as aws:
        login = json.dumps({"username": redshift.user, "password": redshift.password})
        aws.client("secretsmanager").create_secret(Name="login", SecretString=login)
        yield aws.client("redshift-data")


def ended(data: Any, sql: str, **more: Any) -> dict[str, Any]:
    """Run a statement and return its description after its end."""
    started = data.execute_statement(**{**WHERE, "Sql": sql, **more})
    until = time.monotonic() + 30
    while (description := data.describe_statement(Id=started["Id"]))["Status"] == "STARTED":
        assert time.monotonic() < until
        time.sleep(0.05)
    return description


def test_values_have_the_field_types_of_the_api(data: Any) -> None:
    sql = "select 1 as one, 'a' as a, null::varchar as nothing, true as yes, 1.5::float as half"
    description = ended(data, f"{sql}, 1.50::decimal(9, 2) as money, '2026-01-02 03:04:05'::timestamp as moment")
    assert (description["Status"], description["HasResultSet"], description["ResultRows"]) == ("FINISHED", True, 1)
    assert (description["WorkgroupName"], description["Database"]) == ("any", "dev")
    result = data.get_statement_result(Id=description["Id"])
    assert result["Records"] == [
        [
            {"longValue": 1},
            {"stringValue": "a"},
            {"isNull": True},
            {"booleanValue": True},
            {"doubleValue": 1.5},
            {"stringValue": "1.50"},
            {"stringValue": "2026-01-02 03:04:05"},
        ]
    ]
    assert [column["name"] for column in result["ColumnMetadata"]][:3] == ["one", "a", "nothing"]
    assert result["TotalNumRows"] == 1


def test_parameters_are_bound_and_not_inserted_into_the_text(data: Any) -> None:
    value = "it's; drop table x --"
    parameters = [{"name": "first", "value": value}, {"name": "second", "value": "2"}]
    description = ended(data, "select :first as a, ':first' as b, :second::int as c", Parameters=parameters)
    (row,) = data.get_statement_result(Id=description["Id"])["Records"]
    assert row == [{"stringValue": value}, {"stringValue": ":first"}, {"longValue": 2}]


def test_statement_is_committed(data: Any, redshift: Warehouse) -> None:
    description = ended(data, "create table data_api_committed as select 1 as id")
    assert (description["Status"], description["HasResultSet"]) == ("FINISHED", False)
    assert ended(data, "select id from data_api_committed")["ResultRows"] == 1


def test_call_returns_before_the_statement_ends(data: Any, redshift: Warehouse) -> None:
    ended(data, "create table data_api_locked as select 1 as id")
    with contextlib.closing(redshift.connect()) as connection:
        connection.cursor().execute("lock table data_api_locked")
        number = data.execute_statement(**WHERE, Sql="select id from data_api_locked")["Id"]
        time.sleep(0.5)
        assert data.describe_statement(Id=number)["Status"] == "STARTED"
        with pytest.raises(data.exceptions.ResourceNotFoundException, match="Query does not have result"):
            data.get_statement_result(Id=number)


@pytest.mark.parametrize(
    ("sql", "more", "error"),
    [
        ("select id from nowhere", {}, 'ERROR: relation "nowhere" does not exist'),
        ("select :missing", {}, "missing"),
        ("select 1", {"Database": "nowhere"}, "nowhere"),
    ],
)
def test_failed_statement_has_the_warehouse_error(data: Any, sql: str, more: dict[str, str], error: str) -> None:
    description = ended(data, sql, **more)
    assert description["Status"] == "FAILED"
    assert error in description["Error"]
    with pytest.raises(data.exceptions.ResourceNotFoundException):
        data.get_statement_result(Id=description["Id"])


def test_unknown_statements_logins_and_calls_are_errors(data: Any) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(data.exceptions.ResourceNotFoundException) as raised:
        data.describe_statement(Id=unknown)
    assert raised.value.response["ResourceId"] == unknown
    with pytest.raises(data.exceptions.ValidationException, match="can't find the specified secret"):
        data.execute_statement(**{**WHERE, "SecretArn": "nobody"}, Sql="select 1")
    with pytest.raises(data.exceptions.ValidationException, match="needs SecretArn and Database"):
        data.execute_statement(WorkgroupName="any", Database="dev", Sql="select 1")
    with pytest.raises(data.exceptions.ValidationException, match="does not support ListStatements"):
        data.list_statements()
