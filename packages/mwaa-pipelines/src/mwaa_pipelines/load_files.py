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

import bz2
import contextlib
import csv
import gzip
import io
import json
import logging
import re
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.settings import LoadedTable, did_you_mean
from mwaa_pipelines.sql import error_code, error_text, quote_identifier, quote_literal, quote_table

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
_COMPRESSIONS = {".gz": ("gzip", gzip.open), ".bz2": ("bzip2", bz2.open)}
# The keys of JSON objects can differ. Those of the beginning of a file count.
_SAMPLE_CHARACTERS = 1_000_000
# How far to read into a file for the value that Redshift could not load.
_SEARCHED_CHARACTERS = 64_000_000
# Redshift writes its log of errors with a delay.
_ERROR_SECONDS = 20
_NEW_COLUMN = re.compile(r"[a-z_][a-z0-9_$]{0,126}")
_UNDEFINED_TABLE = "42P01"

log = logging.getLogger(__name__)


class FileError(Exception):
    """A file cannot be loaded. The message says why, without the file's name."""


@dataclass(frozen=True)
class S3File:
    """A file in S3."""

    bucket: str
    key: str
    etag: str
    size: int

    @property
    def url(self) -> str:
        """Its address, s3://bucket/key."""
        return f"s3://{self.bucket}/{self.key}"


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


def is_file_of(table: LoadedTable, bucket: str, url: str) -> bool:
    """Whether an address is that of a file of the table. Markers such as _SUCCESS and folders are not."""
    beginning = f"s3://{bucket}/{table.prefix}"
    name = url.rpartition("/")[2]
    return url.startswith(beginning) and not url.endswith("/") and not name.startswith(("_", "."))


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
    _regions: dict[str, str] = field(default_factory=dict)

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
            files = list(self._files(table, bucket, only))
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

    # --- files in S3 --------------------------------------------------------------------------------------------------

    def _files(self, table: LoadedTable, bucket: str, only: Collection[str]) -> Iterator[S3File]:
        prefixes = [url.removeprefix(f"s3://{bucket}/") for url in sorted(only)] or [table.prefix]
        for prefix in prefixes:
            for page in self.s3_client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    file = S3File(bucket, entry["Key"], entry["ETag"], entry["Size"])
                    if is_file_of(table, bucket, file.url) and (not only or file.url in only):
                        yield file

    def _was_loaded(self, file: S3File, known: Mapping[str, tuple[str, str, str]]) -> bool:
        if file.url not in known:
            return False
        etag, checksum, loaded_at = known[file.url]
        if etag == file.etag or (checksum and checksum == self._checksum(file)):
            return True
        raise FileError(
            f"was loaded at {loaded_at[:19]}, and has other content now. Deliver new rows under a new key. To load it "
            f"again, delete its rows from the table and from {self.schema}.{RECORDS}"
        )

    def _checksum(self, file: S3File) -> str:
        try:
            head = self.s3_client.head_object(Bucket=file.bucket, Key=file.key, ChecksumMode="ENABLED")
        except (BotoCoreError, ClientError) as error:
            raise FileError(f"cannot be read: {error}") from None
        sums = [f"{name}={head[name]}" for name in sorted(head) if re.fullmatch("Checksum(?!Type).+", name)]
        return " ".join([str(file.size), *sums]) if sums else ""

    def _check_unchanged(self, file: S3File) -> None:
        """Raise if COPY can have read anything else than this file: it reads all keys that begin with the given one."""
        listed = self.s3_client.list_objects_v2(Bucket=file.bucket, Prefix=file.key, MaxKeys=20).get("Contents", [])
        others = [entry["Key"] for entry in listed if entry["Key"] != file.key and entry["Size"]]
        if others:
            raise FileError(f"COPY would load {others[0]}, too, because its key begins in the same way. Rename one")
        if [entry["ETag"] for entry in listed if entry["Key"] == file.key] != [file.etag]:
            raise FileError("has changed while it was being loaded. The next run loads it")

    @contextlib.contextmanager
    def _opened(self, file: S3File) -> Iterator[TextIO]:
        """Open a file as text, without downloading all of it.

        Raises:
            FileError: the file cannot be read.
        """
        try:
            response = self.s3_client.get_object(Bucket=file.bucket, Key=file.key, IfMatch=file.etag)
            with contextlib.closing(response["Body"]) as body:
                _, decompress = _compression(file.key)
                data = decompress(body) if decompress else io.BufferedReader(body)
                yield io.TextIOWrapper(data, encoding="utf-8-sig", errors="replace", newline="\n")
        except (BotoCoreError, ClientError) as error:
            raise FileError(f"cannot be read: {error}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise FileError(f"cannot be decompressed: {error}") from None

    def _columns(self, table: LoadedTable, file: S3File) -> list[str] | None:
        """Return the names of a file's columns in lower case; None if only COPY can tell."""
        if table.format == "parquet":
            return None
        with self._opened(file) as text:
            if table.format == "csv":
                header = text.readline(_SAMPLE_CHARACTERS)
                return [name.strip().lower() for name in _fields(table, header)]
            names: dict[str, None] = {}
            read = 0
            while read < _SAMPLE_CHARACTERS and (line := text.readline(_SAMPLE_CHARACTERS)):
                read += len(line)
                # COPY reports lines that are no objects.
                with contextlib.suppress(ValueError, AttributeError):
                    names |= dict.fromkeys(name.lower() for name in json.loads(line).keys())  # noqa: SIM118
            return list(names) or None

    def _value(self, table: LoadedTable, file: S3File, line_number: int, column: str) -> str | None:
        """Return the field that Redshift could not load, or None. Redshift's own view has no values."""
        with contextlib.suppress(FileError, ValueError, LookupError, AttributeError), self._opened(file) as text:
            header = text.readline() if table.format == "csv" else ""
            read, line = len(header), header
            for _ in range(line_number - bool(header)):
                line = text.readline(_SAMPLE_CHARACTERS)
                read += len(line)
                if read > _SEARCHED_CHARACTERS:
                    return None
            if header:
                names = [name.strip().lower() for name in _fields(table, header)]
                return _fields(table, line)[names.index(column)]
            return str({name.lower(): value for name, value in json.loads(line).items()}[column])
        return None

    # --- statements ---------------------------------------------------------------------------------------------------

    @property
    def _records(self) -> str:
        return f"{quote_identifier(self.schema)}.{quote_identifier(RECORDS)}"

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
            if error_code(error) != _UNDEFINED_TABLE:
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
        names, checksum = self._columns(table, file), self._checksum(file)
        try:
            self._query(f"lock {self._records}")
            query = f"select 1 from {self._records} where table_name = %s and file = %s"  # noqa: S608 - quoted
            if self._query(query, table.table, file.url):
                self.connection.rollback()
                return
            columns, new_columns = match_columns(table, names, self._table_columns(table))
            for column in map(quote_identifier, new_columns):
                self._query(f"alter table {quote_table(table.table)} add column {column} varchar(65535)")
            self._query(copy_statement(table, columns, file, self.copy_role, self._region(file.bucket)))
            ((rows,),) = self._query("select pg_last_copy_count()")
            self._check_unchanged(file)
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

    def _region(self, bucket: str) -> str:
        """Return the bucket's Region. COPY needs it if the warehouse is in another Region."""
        if bucket not in self._regions:
            region = self.s3_client.head_bucket(Bucket=bucket).get("BucketRegion")
            self._regions[bucket] = region or self.s3_client.meta.region_name
        return self._regions[bucket]

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
        value = self._value(table, file, line, column)
        return f"line {line}, column {column} ({kind}){'' if value is None else f', value {value[:200]!r}'}: {reason}"


def match_columns(
    table: LoadedTable, names: Sequence[str] | None, table_columns: Mapping[str, bool]
) -> tuple[list[str], list[str]]:
    """Return the columns of the table in the order of a file's fields, and those that must be added first.

    Args:
        table: the table.
        names: of the file's columns, in lower case; None if unknown: all columns without a default.
        table_columns: whether each column has a default. A file can lack such a column.

    Raises:
        FileError: the file does not fit the table.
    """
    required = [name for name, has_default in table_columns.items() if not has_default]
    if names is None:
        return required, []
    if doubled := [name for name in names if names.count(name) > 1]:
        raise FileError(f"has several columns with the name {doubled[0]!r}")
    new = [name for name in names if name not in table_columns]
    if missing := [name for name in required if name not in names]:
        raise FileError(
            f"lacks {_columns_text(missing)} of {table.table}. Deliver it complete, or give a column that can be "
            f"missing a default{did_you_mean(missing[0], new)}"
        )
    if new and table.new_columns == "fail":
        raise FileError(
            f"has {_columns_text(new)}, which {table.table} lacks. Alter the table, or set new_columns: add"
            f"{did_you_mean(new[0], table_columns)}"
        )
    if wrong := [name for name in new if not _NEW_COLUMN.fullmatch(name)]:
        raise FileError(f"has the column {wrong[0]!r}, which is not a name for a new column of {table.table}")
    return list(names), new


def copy_statement(table: LoadedTable, columns: Sequence[str], file: S3File, role: str, region: str) -> str:
    """Return the COPY of one file. https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html"""
    clauses = [
        f"copy {quote_table(table.table)} ({', '.join(map(quote_identifier, columns))})",
        f"from {quote_literal(file.url)}",
        f"iam_role {'default' if role == 'default' else quote_literal(role)}",
    ]
    if table.format == "parquet":
        # Other options, the Region among them, are not allowed.
        return " ".join([*clauses, "format as parquet"])
    clauses.append(f"region {quote_literal(region)}")
    if table.format == "csv":
        clauses.append(f"csv delimiter {quote_literal(table.delimiter or ',')} ignoreheader 1")
    else:
        clauses.append("json 'auto ignorecase'")
    if table.null_as:
        clauses.append(f"null as {quote_literal(table.null_as)}")
    clauses.append(f"dateformat {quote_literal(table.date_format)} timeformat {quote_literal(table.time_format)}")
    if compression := _compression(file.key)[0]:
        clauses.append(compression)
    return " ".join(clauses)


def _compression(key: str) -> tuple[str, Any]:
    """Return COPY's option for a file, and a function that opens it."""
    return next((compression for suffix, compression in _COMPRESSIONS.items() if key.endswith(suffix)), ("", None))


def _fields(table: LoadedTable, line: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=table.delimiter or ","), [])
    except csv.Error as error:
        raise FileError(f"has a line that is not CSV: {error}") from None


def _columns_text(names: Sequence[str]) -> str:
    return f"the column{'' if len(names) == 1 else 's'} {', '.join(names)}"
