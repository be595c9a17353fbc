"""A bucket and a source table for tests that load files."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import redshift_connector

from mwaa_pipelines.load_files import Loader, LoadOutcome
from mwaa_pipelines.settings import LoadedTable
from mwaa_release.redshift import apply_grants

PASSWORD = "Passw0rd"


class Shop:
    """A bucket, a source table, and a pipeline's user that may insert into it."""

    def __init__(self, warehouse: Any, s3: Any) -> None:
        self.id = secrets.token_hex(4)
        self.warehouse, self.s3 = warehouse, s3
        self.bucket, self.source, self.target = f"shop-{self.id}", f"landing_{self.id}", f"marts_{self.id}"
        self.user, self.table = f"dbt_{self.id}", f"landing_{self.id}.orders"
        s3.create_bucket(Bucket=self.bucket)
        self.admin = warehouse.connect()
        self.admin.autocommit = True
        columns = "id integer, name varchar(10), price numeric(8, 2), loaded_at timestamp default getdate()"
        for statement in (f"create schema {self.source}", f"create table {self.table} ({columns})"):
            self.query(statement)
        apply_grants(self.admin, self.user, PASSWORD, self.source, self.target, loaded_tables=[self.table])
        self.connections: list[redshift_connector.Connection] = []

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.admin.cursor() as cursor:
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def put(self, name: str, content: str | bytes) -> str:
        """Put a file below the table's prefix, and return its address."""
        body = content.encode() if isinstance(content, str) else content
        self.s3.put_object(Bucket=self.bucket, Key=f"orders/{name}", Body=body)
        return f"s3://{self.bucket}/orders/{name}"

    def loader(self, run_id: str = "run") -> Loader:
        self.connections.append(self.warehouse.connect(self.user, PASSWORD))
        return Loader(self.connections[-1], self.s3, self.target, dag_id="shop", run_id=run_id)

    def load(self, run_id: str = "run", only: tuple[str, ...] = (), **settings: Any) -> LoadOutcome:
        """Load the table's files as a pipeline does."""
        table = LoadedTable(**{"table": self.table, "prefix": "orders/", "format": "csv", **settings})
        return self.loader(run_id).load(table, self.bucket, only)

    def ids(self) -> list[int]:
        return [row[0] for row in self.query(f"select id from {self.table} order by id")]

    def recorded(self) -> dict[str, int]:
        """Return the rows of each file, by the end of its name, once no session of the user is left."""
        deadline = time.monotonic() + 60
        while self.query(f"select count(*) from stv_sessions where trim(user_name) = '{self.user}'") != [(0,)]:
            assert time.monotonic() < deadline, "the session of a killed process is still there"
            time.sleep(0.05)
        tables = f"select count(*) from svv_tables where table_schema = '{self.target}'"
        records = f"select right(file, 7), row_count from {self.target}.loaded_files"
        return dict(self.query(records)) if self.query(tables) != [(0,)] else {}

    def close(self) -> None:
        for connection in [*self.connections, self.admin]:
            connection.close()


@pytest.fixture
def shop(redshift_with_s3: Any, redshift_s3: dict[str, str]) -> Iterator[Shop]:
    s3 = boto3.client(
        "s3",
        endpoint_url=redshift_s3["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    shop = Shop(redshift_with_s3, s3)
    yield shop
    shop.close()
