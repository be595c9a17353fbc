# ruff: noqa: S608 - names are quoted, literals escaped; translating SQL is what this package does
"""UNLOAD: writes a query's result to S3. https://docs.aws.amazon.com/redshift/latest/dg/r_UNLOAD.html

There is one slice, so there is one file, named like Redshift's first.
"""

import asyncio
import bz2
import gzip
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import botocore.exceptions

from redshift_local.copy import objects
from redshift_local.parse import longnames
from redshift_local.parse.words import Words
from redshift_local.plan import HELPERS, Plan, Refused, literal, unsupported
from redshift_local.protocol.retype import compact

_NOT_HERE = ("parquet", "fixedwidth", "encrypted", "partition", "zstd", "kms_key_id", "master_symmetric_key")
_FLAGS = ("header", "addquotes", "escape", "allowoverwrite", "cleanpath", "manifest", "verbose", "gzip", "bzip2")
_WITH_VALUE = ("region", "maxfilesize", "rowgroupsize", "extension", "delimiter", "null")
_ENDINGS = {"gzip": ".gz", "bzip2": ".bz2"}
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def unload(words: Words, translate: Callable[[str], tuple[Plan, ...]]) -> Plan:
    """Read an UNLOAD statement, after its first word."""
    if not words.take("("):
        raise words.error()
    text = words.string()
    if not (words.take(")") and words.take("to")):
        raise words.error()
    inner = translate(text)
    if len(inner) != 1 or inner[0].action:
        raise Refused("UNLOAD takes one SELECT statement", "42601")
    if inner[0].refused:
        return inner[0]
    statement = Unload(inner[0].sql, words.string())
    authorized = False
    while words.left:
        if words.take("iam_role"):
            authorized = words.take("default") or bool(words.string())
        elif words.take("credentials") or words.take("access_key_id") or words.take("secret_access_key"):
            words.take("as")
            authorized = bool(words.string())
        else:
            _option(words, statement)
    if not authorized:
        raise Refused("CREDENTIALS argument is required but not supplied", "42601", "add: IAM_ROLE default")
    return Plan("", action=statement, reads=inner[0].reads)


def _option(words: Words, statement: "Unload") -> None:
    word = words.peek()
    if word in _NOT_HERE:
        raise unsupported(f"UNLOAD with {word.upper()}", "unload CSV, JSON or delimited text")
    if words.take("format"):
        words.take("as")
    elif word in ("csv", "json"):
        words.position += 1
        statement.format = word
    elif word == "parallel":
        words.position += 1
        statement.parallel = not (words.take("off") or words.take("false"))
        if statement.parallel:
            words.take("on") or words.take("true")
    elif word in _FLAGS:
        words.position += 1
        statement.flags.add(word)
    elif word in _WITH_VALUE:
        words.position += 1
        words.take("as")
        statement.values[word] = words.string() if words.at_string() else words.source()
        if word == "maxfilesize":
            words.take("mb") or words.take("gb")
    else:
        raise words.error()


@dataclass
class Unload:
    """An UNLOAD, to be run by the gateway in a client's session."""

    sql: str
    url: str
    format: str = ""
    parallel: bool = True
    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)

    async def run(self, session) -> str:
        """Write the file; returns the command tag.

        Raises:
            Refused: the destination is not empty, S3 does not answer, or the query failed.
        """
        bucket, prefix = objects.split(self.url)
        s3 = objects.client()
        await asyncio.to_thread(self._prepare, s3, bucket, prefix)
        ending = next((text for flag, text in _ENDINGS.items() if flag in self.flags), "")
        extension = self.values.get("extension", "") or ending
        if extension and not extension.startswith("."):
            extension = f".{extension}"
        name = f"{prefix}{'0000_part_00' if self.parallel else '000'}{extension}"
        with tempfile.TemporaryFile() as file:
            opened = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File}.get(ending)
            out = opened(fileobj=file, mode="wb") if ending == ".gz" else opened(file, "wb") if opened else file
            named = self.format == "json" or "header" in self.flags  # whether the next row has names of columns

            def write(row: bytes) -> None:
                nonlocal named
                out.write(longnames.restore_bytes(self._row(row)) if named else self._row(row))
                named = self.format == "json"

            segment = await session.run_internal(self._copy(), data=write)
            if out is not file:
                out.close()
            if segment.failed is not None:
                raise Refused(
                    segment.failed.get("M", ""), segment.failed.get("C", "XX000"), segment.failed.get("H", "")
                )
            size = file.tell()
            file.seek(0)
            await asyncio.to_thread(self._upload, s3, bucket, name, file)
        if "manifest" in self.flags:
            entry = {"url": f"s3://{bucket}/{name}", "meta": {"content_length": size}}
            text = json.dumps({"entries": [entry]}).encode()
            await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=f"{prefix}manifest", Body=text)
        rows = int(segment.tag.split()[-1])
        await session.query_internal(f"SELECT set_config('{HELPERS}.unload_count', '{rows}', false)")
        session.notice(f"UNLOAD completed, {rows} record(s) unloaded successfully.")
        return f"UNLOAD {rows}"

    def _prepare(self, s3, bucket: str, prefix: str) -> None:
        try:
            existing = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
            if existing and "cleanpath" in self.flags:
                for item in existing:
                    s3.delete_object(Bucket=bucket, Key=item["Key"])
            elif existing and "allowoverwrite" not in self.flags:
                text = "Specified unload destination on S3 is not empty. Consider using a different bucket / prefix,"
                text += " manually removing the target files in S3, or using the ALLOWOVERWRITE option."
                raise Refused(text, "XX000")
        except botocore.exceptions.ClientError as problem:
            raise objects.service_error(problem, bucket, prefix) from problem
        except botocore.exceptions.BotoCoreError as problem:
            raise objects.unreachable(problem) from problem

    def _upload(self, s3, bucket: str, name: str, file) -> None:
        try:
            s3.upload_fileobj(file, bucket, name)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as problem:
            raise objects.unreachable(problem) from problem

    def _copy(self) -> str:
        null = literal(self.values.get("null", ""))
        if self.format == "json":
            return f"COPY (SELECT row_to_json(q) FROM ({self.sql}) AS q) TO STDOUT"
        header = ", HEADER" if "header" in self.flags else ""
        delimiter = literal(self.values.get("delimiter", "," if self.format == "csv" else "|"))
        kind = "csv, FORCE_QUOTE *" if "addquotes" in self.flags else self.format or "text"
        return f"COPY ({self.sql}) TO STDOUT WITH (FORMAT {kind}, DELIMITER {delimiter}, NULL {null}{header})"

    def _row(self, row: bytes) -> bytes:
        """Unescape PostgreSQL's text format; Redshift writes a backslash only with ESCAPE."""
        if self.format == "json":
            return compact(_ESCAPED.sub(lambda match: _LETTERS.get(match[1], match[1]), row)) + b"\n"
        if self.format == "csv" or "addquotes" in self.flags or b"\\" not in row:
            return row
        mark = b"\\" if "escape" in self.flags else b""
        return _ESCAPED.sub(lambda match: mark + _LETTERS.get(match[1], match[1]), row)
