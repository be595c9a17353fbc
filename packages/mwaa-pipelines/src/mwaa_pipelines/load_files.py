"""Copies new files from S3 into tables of Redshift: each file once. Needs no Airflow, so other tools use it, too.

Each file has its own transaction, with which its rows and the record of the file are committed together:

    lock loaded_files                             only one session at a time loads files
    select … from loaded_files                    has another session loaded this file since?
    alter table … add column …                    only with new_columns: add
    copy … from 's3://…'
    (S3: is this file still the same, and the only one with this beginning of its key?)
    insert into loaded_files …
    commit

| what ends                              | what happens                                                       |
|----------------------------------------|--------------------------------------------------------------------|
| the task, before the commit            | Redshift rolls back; the next try or run loads the file            |
| the task, during or after the commit   | the file is loaded if Redshift committed: the next try sees it     |
| the task, while Redshift still copies  | the next try waits for the lock, then sees whether it was loaded   |
| two runs, or two pipelines, at a time  | one waits for the lock, then skips what the other has loaded       |
| the warehouse                          | it rolls back; the next try or run loads the file                  |

A file is known by its key. S3 can deliver the same content again with another ETag (an encrypted bucket does), so a
known key with another ETag is compared by S3's checksum, too. A known key with other content is an error: its old rows
are in the table, and nobody can say which of them to replace.

Other ways, and why not: Airflow's S3ToRedshiftOperator commits the COPY on its own, and uses a connection without the
pipeline's secret or role. The Data API cannot look whether a file was loaded between LOCK and COPY in one transaction,
needs further permissions, and does not reach a warehouse by a password. One COPY of a manifest with many files is
faster for thousands of small files, but a broken file would roll back the good ones, and the rows of each file would be
unknown.
"""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.bucket_files import BucketFiles, FileError, S3File
from mwaa_pipelines.load_statements import copy_statement, match_columns
from mwaa_pipelines.settings import LoadedTable
from mwaa_pipelines.sql import error_code, error_text, quote_identifier, quote_table

# In the pipeline's target schema.
RECORDS = "loaded_files"
_RECORD_COLUMNS = {
    "table_name": "varchar(257)",
    "file": "varchar(1100)",
    "etag": "varchar(128)",
    "checksum": "varchar(256)",
    "bytes": "bigint",
    "row_count": "bigint",
    "airflow_dag_id": "varchar(256)",
    "airflow_run_id": "varchar(256)",
}
# Redshift writes its log of errors with a delay.
_ERROR_SECONDS = 20
UNDEFINED_TABLE = "42P01"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadOutcome:
    """The files of a table that a run has loaded, also in earlier tries, and a message for each one that failed."""

    table: str
    files: int
    rows: int
    bytes: int
    problems: tuple[str, ...]
    started_at: datetime
    completed_at: datetime

    @property
    def status(self) -> str:
        """The status in dbt's words."""
        if not self.problems:
            return "success"
        return "partial success" if self.files else "error"

    @property
    def message(self) -> str:
        """The number of files, and what is wrong with the others."""
        loaded = f"{self.files} {'file' if self.files == 1 else 'files'} loaded"
        if not self.problems:
            return loaded
        return f"{self.problems[0]} ({len(self.problems)} not loaded, {loaded})" + "".join(
            f"\n{problem}" for problem in self.problems[1:]
        )

    def result(self, project_name: str, database: str) -> dict[str, Any]:
        """Return the outcome as an entry of run_results.json, with its node.

        Args:
            project_name: the dbt project.
            database: the table's database.
        """
        schema, name = self.table.split(".")
        start, end = (time.replace(tzinfo=None).isoformat() for time in (self.started_at, self.completed_at))
        return {
            "unique_id": f"load.{project_name}.{self.table}",
            "node": {
                "database": database,
                "schema": schema,
                "name": name,
                "relation_name": f"{quote_identifier(database)}.{quote_table(self.table)}",
            },
            "status": self.status,
            "execution_time": (self.completed_at - self.started_at).total_seconds(),
            "message": self.message.encode()[:4096].decode(errors="ignore"),
            "failures": len(self.problems),
            "thread_id": None,
            "max_loaded_at": None,
            # dbt's steps: compile and execute.
            "timing": [{"started_at": start, "completed_at": start}, {"started_at": start, "completed_at": end}],
            "adapter_response": {"rows_affected": self.rows, "bytes_loaded": self.bytes},
        }


@dataclass
class Loader:
    """Loads files with one connection, which it commits and rolls back.

    Args:
        connection: of a user that can insert into the tables, and owns them for new_columns: add.
        s3_client: boto3 client for S3.
        schema: of the table with the records; the user can create tables in it.
        copy_role: as the setting of a pipeline.
        dag_id: written to the records, and with `run_id`: the run whose files `load` counts.
        run_id: the run.
    """

    connection: redshift_connector.Connection
    s3_client: Any
    schema: str
    copy_role: str = "default"
    dag_id: str = ""
    run_id: str = ""

    @cached_property
    def _files(self) -> BucketFiles:
        return BucketFiles(self.s3_client)

    def load(self, table: LoadedTable, bucket: str, only: Collection[str] = ()) -> LoadOutcome:
        """Load the files of a table that have not been loaded, in the order of their keys.

        Args:
            table: the table.
            bucket: the bucket of its files.
            only: addresses of files; the others are left for another run. Empty: all files.

        Raises:
            redshift_connector.Error: the connection has failed, or the records cannot be read.
        """
        started_at, problems = datetime.now(UTC), []
        self.connection.autocommit = False
        self._create_records()
        known = self._known(table)
        try:
            files = list(self._files.find(table, bucket, only))
        except (BotoCoreError, ClientError) as error:
            files, problems = [], [f"s3://{bucket}/{table.prefix}: cannot be listed: {error}"]
        problems += [f"{url}: is not in the bucket" for url in set(only) - {file.url for file in files}]
        for file in files:
            try:
                # COPY reads nothing from an empty file.
                if file.size and not self._was_loaded(file, known):
                    self._load_file(table, file)
            except FileError as error:
                problems.append(f"{file.url}: {error}")
                log.warning("%s was not loaded: %s", file.url, error)
        query = (
            f"select count(*), sum(row_count), sum(bytes) from {self._records} "  # noqa: S608 - quoted
            "where table_name = %s and airflow_dag_id = %s and airflow_run_id = %s"
        )
        ((count, rows, size),) = self._query(query, table.table, self.dag_id, self.run_id)
        self.connection.rollback()
        return LoadOutcome(
            table.table, count, int(rows or 0), int(size or 0), tuple(problems), started_at, datetime.now(UTC)
        )

    @property
    def _records(self) -> str:
        return f"{quote_identifier(self.schema)}.{quote_identifier(RECORDS)}"

    def _was_loaded(self, file: S3File, known: Mapping[str, tuple[str, str, str]]) -> bool:
        if file.url not in known:
            return False
        etag, checksum, loaded_at = known[file.url]
        if etag == file.etag or (checksum and checksum == self._files.checksum(file)):
            return True
        raise FileError(
            f"was loaded at {loaded_at[:19]}, and has other content now. Deliver new rows under a new key. To load it "
            f"again, delete its rows from the table and from {self.schema}.{RECORDS}"
        )

    def _query(self, statement: str, *values: Any) -> Sequence[Sequence[Any]]:
        with self.connection.cursor() as cursor:
            if not values:
                # The default style treats every % outside of a string as a parameter.
                cursor.paramstyle = "qmark"
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _create_records(self) -> None:
        try:
            self._query(f"select 1 from {self._records} limit 0")  # noqa: S608 - quoted
        except redshift_connector.Error as error:
            self.connection.rollback()
            if error_code(error) != UNDEFINED_TABLE:
                raise
            columns = ", ".join(f"{name} {kind}" for name, kind in _RECORD_COLUMNS.items())
            self._query(f"create table if not exists {self._records} ({columns}, loaded_at timestamp)")
            self.connection.commit()
        else:
            self.connection.rollback()

    def _known(self, table: LoadedTable) -> dict[str, tuple[str, str, str]]:
        """Return ETag, checksum and time of each file that was loaded into a table, by its address."""
        query = f"select file, etag, checksum, loaded_at from {self._records} where table_name = %s"  # noqa: S608 - quoted
        rows = self._query(query, table.table)
        self.connection.rollback()
        return {file: (etag, checksum or "", str(loaded_at)) for file, etag, checksum, loaded_at in rows}

    def _load_file(self, table: LoadedTable, file: S3File) -> None:
        """Load a file in one transaction, unless another session has loaded it since.

        Raises:
            FileError: nothing was loaded.
            redshift_connector.Error: the connection has failed.
        """
        names, checksum = self._files.columns(table, file), self._files.checksum(file)
        try:
            self._query(f"lock {self._records}")
            query = f"select 1 from {self._records} where table_name = %s and file = %s"  # noqa: S608 - quoted
            if self._query(query, table.table, file.url):
                self.connection.rollback()
                return
            columns, new_columns = match_columns(table, names, self._table_columns(table))
            for column in map(quote_identifier, new_columns):
                self._query(f"alter table {quote_table(table.table)} add column {column} varchar(65535)")
            self._query(copy_statement(table, columns, file, self.copy_role, self._files.region(file.bucket)))
            ((rows,),) = self._query("select pg_last_copy_count()")
            self._files.check_unchanged(file)
            record = (table.table, file.url, file.etag, checksum, file.size, rows, self.dag_id, self.run_id)
            places = ", ".join(["%s"] * len(record))
            columns = f"{', '.join(_RECORD_COLUMNS)}, loaded_at"
            self._query(f"insert into {self._records} ({columns}) values ({places}, getdate())", *record)  # noqa: S608
            self.connection.commit()
        except redshift_connector.Error as error:
            self.connection.rollback()
            raise FileError(self._reason(error, table, file)) from None
        except (BotoCoreError, ClientError) as error:
            self.connection.rollback()
            raise FileError(f"cannot be read: {error}") from None
        except BaseException:
            self.connection.rollback()
            raise
        log.info("%s: %s rows from %s", table.table, rows, file.url)

    def _table_columns(self, table: LoadedTable) -> dict[str, bool]:
        """Return for each column of a table whether it has a default."""
        query = (
            "select column_name, column_default is not null from information_schema.columns "
            "where lower(table_schema) = %s and lower(table_name) = %s order by ordinal_position"
        )
        rows = self._query(query, *table.table.split("."))
        if not rows:
            raise FileError(f"the table {table.table} does not exist, or the pipeline's user has no permission on it")
        return {str(name).lower(): bool(has_default) for name, has_default in rows}

    def _reason(self, error: redshift_connector.Error, table: LoadedTable, file: S3File) -> str:
        """Return why a file could not be loaded: line, column, value and reason if its content is the cause.

        https://docs.aws.amazon.com/redshift/latest/dg/SYS_LOAD_ERROR_DETAIL.html
        """
        text = error_text(error)
        if "Load into table" not in text:
            return text
        ((session,),) = self._query("select pg_backend_pid()")
        query = (
            "select line_number, trim(column_name), trim(column_type), trim(error_message) from sys_load_error_detail "
            "where session_id = %s and trim(file_name) = %s order by start_time desc, line_number limit 1"
        )
        url = file.url.encode()[:256].decode(errors="ignore")
        deadline = time.monotonic() + _ERROR_SECONDS
        while not (rows := self._query(query, session, url)) and time.monotonic() < deadline:
            self.connection.rollback()
            time.sleep(1)
        self.connection.rollback()
        if not rows:
            return text
        ((line, column, kind, reason),) = rows
        if not column:
            return f"line {line}: {reason}"
        value = self._files.value(table, file, line, column)
        return f"line {line}, column {column} ({kind}){'' if value is None else f', value {value[:200]!r}'}: {reason}"
