# ruff: noqa: S608 - names are quoted, literals escaped; translating SQL is what this package does
"""COPY: loads S3 objects into a table, in the client's session and transaction.

PostgreSQL's own COPY reads the data if both databases read it the same way. Otherwise `rows` reads each field as
Redshift does and reports the first bad one.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from redshift_local.copy import objects
from redshift_local.copy.options import Options, authorization, option
from redshift_local.copy.rows import Column, LoadError, Reader
from redshift_local.parse.words import Words
from redshift_local.plan import HELPERS, Plan, Refused, identifier, literal, unsupported
from redshift_local.protocol import wire


def copy(words: Words) -> Plan:
    """Read a COPY statement, after its first word. https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html"""
    table = words.dotted()
    columns: list[str] = []
    if words.take("("):
        columns.append(words.name())
        while words.take(","):
            columns.append(words.name())
        if not words.take(")"):
            raise words.error()
    if not words.take("from"):
        raise words.error()
    if words.peek() in ("stdin", "program") or not words.left:
        raise unsupported(f"COPY FROM {words.peek().upper()}", "load from s3://, as on a cluster")
    url = words.string()
    if not url.startswith("s3://"):
        raise unsupported(f"COPY FROM '{url}'", "load from s3://")
    options, authorized = Options(), False
    while words.left:
        authorized = authorization(words) or authorized
        if words.left and not option(words, options):
            raise words.error()
    if not authorized:
        raise Refused("CREDENTIALS argument is required but not supplied", "42601", "add: IAM_ROLE default")
    load = Load(table, columns, url, options)
    return Plan("", action=load, writes=load.name)


@dataclass
class Load:
    """A COPY, to be run by the gateway in a client's session."""

    table: list[str]
    columns: list[str]
    url: str
    options: Options

    @property
    def name(self) -> str:
        """The table as PostgreSQL text."""
        return ".".join(self.table)

    @property
    def bare(self) -> str:
        """The table's name in messages."""
        return self.table[-1][1:-1].replace('""', '"')

    async def run(self, session) -> str:
        """Load; returns the command tag.

        Raises:
            Refused: nothing was loaded; the message says why.
        """
        columns = await self._columns(session)
        s3 = objects.client()
        files = await asyncio.to_thread(objects.find, s3, self.url, manifest=self.options.manifest)
        inside = session.in_transaction
        await session.query_internal("SAVEPOINT pg_redshift_copy" if inside else "BEGIN")
        try:
            rows = await self._rows(session, s3, files, columns, inside=inside)
        except LoadError as problem:
            await self._end(session, inside, keep=False)
            session.load_errors(self.name, problem.rows)
            text = f"Load into table '{self.bare}' failed.  Check 'stl_load_errors' system table for details."
            raise Refused(text, "XX000", str(problem)) from problem
        except Refused:
            await self._end(session, inside, keep=False)
            raise
        await session.query_internal(f"SELECT set_config('{HELPERS}.copy_count', '{rows}', false)")
        await self._end(session, inside, keep=True)
        session.notice(f"Load into table '{self.bare}' completed, {rows} record(s) loaded successfully.")
        return f"COPY {rows}"

    async def _rows(self, session, s3, files: list[tuple[str, str]], columns: list[Column], *, inside: bool) -> int:
        if self._native_copy_is_equivalent():
            rows = await self._copy_natively(session, s3, files, columns)
            if rows is not None:
                return rows
            again = "ROLLBACK TO SAVEPOINT pg_redshift_copy" if inside else "ROLLBACK; BEGIN"
            await session.query_internal(again)
        return await self._copy_parsed(session, s3, files, columns)

    async def _end(self, session, inside: bool, *, keep: bool) -> None:
        if not keep:
            await session.run_internal("ROLLBACK TO SAVEPOINT pg_redshift_copy" if inside else "ROLLBACK")
        elif not inside:
            await session.query_internal("COMMIT")
        if inside:
            await session.run_internal("RELEASE SAVEPOINT pg_redshift_copy")

    async def _columns(self, session) -> list[Column]:
        """Return the target columns, in the order of the file's fields."""
        rows = await session.query_internal(
            "SELECT a.attname, t.typname, a.atttypmod, a.attidentity, a.attnotnull FROM pg_attribute a"
            " JOIN pg_type t ON t.oid = a.atttypid"
            f" WHERE attrelid = to_regclass({literal(self.name)}) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        if not rows:
            raise Refused(f"Cannot COPY into nonexistent table {self.bare}", "42P01")
        known = {identifier(row[0]): Column(row[0], row[1], int(row[2]), row[3] != "") for row in rows}
        if missing := [name for name in self.columns if name not in known]:
            raise Refused(f'column "{missing[0][1:-1]}" of relation "{self.bare}" does not exist', "42703")
        columns = [known[name] for name in self.columns] or list(known.values())
        if "explicit_ids" not in self.options.flags:
            # Without EXPLICIT_IDS, the file has no field for identity columns.
            columns = [column for column in columns if not column.identity]
        return columns

    def _native_copy_is_equivalent(self) -> bool:
        """Whether PostgreSQL's COPY reads such data as Redshift's does, or fails."""
        options = self.options
        formats = {options.date_format, options.time_format} <= {"", "auto"}
        return options.csv and not options.flags and formats and not options.max_errors

    async def _copy_natively(self, session, s3, files: list[tuple[str, str]], columns: list[Column]) -> int | None:
        """Let PostgreSQL read the files; returns the number of rows, or None if it refuses them."""
        options = self.options
        texts = [identifier(column.name) for column in columns if column.is_text]
        target = f"{self.name} ({', '.join(identifier(column.name) for column in columns)})"
        sql = f"COPY {target} FROM STDIN WITH (FORMAT csv, QUOTE {literal(options.quote)}"
        sql += f", DELIMITER {literal(options.delimiter or ',')}"
        if options.null and options.null != "\\N":
            sql += f", NULL {literal(options.null)}"
        elif texts:
            # An empty field is null, but an empty string in a text column.
            sql += f", FORCE_NOT_NULL ({', '.join(texts)})"
        wide = False

        def pieces() -> Iterator[bytes]:
            nonlocal wide
            for bucket, key in files:
                last = b"\n"
                for piece in _without_header(objects.read(s3, bucket, key, options.compression), options.header):
                    if options.null == "\\N" and b"\\N" in piece:
                        raise _Different
                    wide = wide or not piece.isascii()
                    last = piece[-1:]
                    yield piece
                if last != b"\n":
                    yield b"\n"

        segment = await session.run_internal(sql + ")", wait=False)
        try:
            await send(session, segment, pieces())
        except _Different:
            await session.abort_copy(segment)
            return None
        if segment.failed is not None:
            _raise_unless_data(segment.failed)
            return None
        if wide and (limits := [column.too_long for column in columns if column.too_long]):
            # PostgreSQL counted characters, but Redshift counts bytes.
            check = f"SELECT 1 FROM {self.name} WHERE {' OR '.join(limits)} LIMIT 1"
            if await session.query_internal(check):
                return None
        return int(segment.tag.split()[-1])

    async def _copy_parsed(self, session, s3, files: list[tuple[str, str]], columns: list[Column]) -> int:
        """Read every field as Redshift does, and send PostgreSQL the values."""
        reader = Reader(self.options, columns)

        def pieces() -> Iterator[bytes]:
            for bucket, key in files:
                yield from reader.read(f"s3://{bucket}/{key}", objects.read(s3, bucket, key, self.options.compression))

        target = f"{self.name} ({', '.join(identifier(column.name) for column in columns)})"
        segment = await session.run_internal(f"COPY {target} FROM STDIN", wait=False)
        await send(session, segment, pieces())
        if segment.failed is not None:
            fields = segment.failed
            raise Refused(fields.get("M", ""), fields.get("C", "XX000"), fields.get("W", "").split("\n")[0])
        if reader.errors:
            session.load_errors(self.name, reader.errors)
        return int(segment.tag.split()[-1])


class _Different(Exception):  # noqa: N818 - not control flow: the field-by-field reader is used instead
    """PostgreSQL would read the data differently from Redshift."""


def _raise_unless_data(failed: dict[str, str]) -> None:
    """Raise errors that are not about the data: reading it differently would not help."""
    if failed.get("C", "")[:2] not in ("22", "23", "57"):
        raise Refused(failed.get("M", ""), failed.get("C", "XX000"), failed.get("H", ""))


def _without_header(pieces: Iterator[bytes], lines: int) -> Iterator[bytes]:
    for piece in pieces:
        left = piece
        while lines and left:
            end = left.find(b"\n")
            if end < 0:
                left = b""
            else:
                left, lines = left[end + 1 :], lines - 1
        if left:
            yield left


async def send(session, segment, pieces: Iterator[bytes]) -> None:
    """Send the data of the COPY in `segment`, reading the next chunk while one is sent.

    Raises:
        LoadError, Refused: reading failed; the COPY was aborted.
    """
    await segment.copying.wait()

    def following() -> bytes | None:
        return next(pieces, None)

    ahead = asyncio.create_task(asyncio.to_thread(following))
    try:
        while (piece := await ahead) is not None:
            ahead = asyncio.create_task(asyncio.to_thread(following))
            session.server_writer.writelines((wire.header(b"d", len(piece)), piece))
            await session.server_writer.drain()
            if segment.failed is not None:
                break
    except (LoadError, Refused):
        await session.abort_copy(segment)
        raise
    finally:
        if not ahead.done():
            await asyncio.wait([ahead])
        if ahead.done() and not ahead.cancelled():
            ahead.exception()
    if segment.failed is None:
        session.server_writer.write(wire.message(b"c"))
        await session.server_writer.drain()
    await segment.done.wait()
