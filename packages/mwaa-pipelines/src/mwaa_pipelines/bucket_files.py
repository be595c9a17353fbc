"""The files of a table in S3: which there are, whether they have changed, their columns and values."""

import bz2
import contextlib
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from botocore.exceptions import BotoCoreError, ClientError

from mwaa_pipelines.settings import LoadedTable

_COMPRESSIONS = {".gz": ("gzip", gzip.open), ".bz2": ("bzip2", bz2.open)}
# The keys of JSON objects can differ. Those of the beginning of a file count.
_SAMPLE_CHARACTERS = 1_000_000
# How far to read into a file for the value that Redshift could not load.
_SEARCHED_CHARACTERS = 64_000_000


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


def is_file_of(table: LoadedTable, bucket: str, url: str) -> bool:
    """Whether an address is that of a file of the table. Markers such as _SUCCESS and folders are not."""
    beginning = f"s3://{bucket}/{table.prefix}"
    name = url.rpartition("/")[2]
    return url.startswith(beginning) and not url.endswith("/") and not name.startswith(("_", "."))


@dataclass
class BucketFiles:
    """Reads files with a boto3 client for S3."""

    s3_client: Any
    _regions: dict[str, str] = field(default_factory=dict)

    def find(self, table: LoadedTable, bucket: str, only: Collection[str] = ()) -> Iterator[S3File]:
        """Yield the files of a table in the order of their keys; with `only`, those with one of these addresses.

        Raises:
            BotoCoreError, ClientError: they cannot be listed.
        """
        prefixes = [url.removeprefix(f"s3://{bucket}/") for url in sorted(only)] or [table.prefix]
        for prefix in prefixes:
            for page in self.s3_client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    file = S3File(bucket, entry["Key"], entry["ETag"], entry["Size"])
                    if is_file_of(table, bucket, file.url) and (not only or file.url in only):
                        yield file

    def checksum(self, file: S3File) -> str:
        """Return a file's size with S3's checksums; empty if S3 has none.

        Raises:
            FileError: the file cannot be read.
        """
        try:
            head = self.s3_client.head_object(Bucket=file.bucket, Key=file.key, ChecksumMode="ENABLED")
        except (BotoCoreError, ClientError) as error:
            raise FileError(f"cannot be read: {error}") from None
        sums = [f"{name}={head[name]}" for name in sorted(head) if re.fullmatch("Checksum(?!Type).+", name)]
        return " ".join([str(file.size), *sums]) if sums else ""

    def check_unchanged(self, file: S3File) -> None:
        """Check that COPY has read this file alone. It reads all keys that begin with the given one.

        Raises:
            FileError: the file has changed, or there are others.
            BotoCoreError, ClientError: the files cannot be listed.
        """
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
                _, decompress = compression_of(file.key)
                data = decompress(body) if decompress else io.BufferedReader(body)
                yield io.TextIOWrapper(data, encoding="utf-8-sig", errors="replace", newline="\n")
        except (BotoCoreError, ClientError) as error:
            raise FileError(f"cannot be read: {error}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise FileError(f"cannot be decompressed: {error}") from None

    def columns(self, table: LoadedTable, file: S3File) -> list[str] | None:
        """Return the names of a file's columns in lower case; None if only COPY can tell.

        Raises:
            FileError: the file cannot be read.
        """
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

    def value(self, table: LoadedTable, file: S3File, line_number: int, column: str) -> str | None:
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

    def region(self, bucket: str) -> str:
        """Return the bucket's Region. COPY needs it if the warehouse is in another Region.

        Raises:
            BotoCoreError, ClientError: S3 does not tell.
        """
        if bucket not in self._regions:
            region = self.s3_client.head_bucket(Bucket=bucket).get("BucketRegion")
            self._regions[bucket] = region or self.s3_client.meta.region_name
        return self._regions[bucket]


def compression_of(key: str) -> tuple[str, Any]:
    """Return COPY's option for a file, and a function that opens it."""
    return next((compression for suffix, compression in _COMPRESSIONS.items() if key.endswith(suffix)), ("", None))


def _fields(table: LoadedTable, line: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=table.delimiter or ","), [])
    except csv.Error as error:
        raise FileError(f"has a line that is not CSV: {error}") from None
