"""The TCP server for Redshift clients: start-up, login, cancel; a Session serves them after the login."""

import asyncio
import contextlib
import logging
import resource
import struct

import psycopg

from redshift_local.catalog.bind_late import Known
from redshift_local.parse import longnames
from redshift_local.plan import Refused
from redshift_local.protocol import login, wire
from redshift_local.protocol.retype import BINARY, TEXT
from redshift_local.server.journal import Journal, Who
from redshift_local.server.postgres import MAX_SESSIONS, Postgres
from redshift_local.server.session import Connection, Session, Stream
from redshift_local.settings import HOST

# Redshift's version: its connector behaves differently with PostgreSQL's.
SERVER_VERSION = "8.0.2"
# Parameters that Redshift reports. From version 4 of show_discovery on, drivers read the catalog with SHOW and bound
# names, else with queries of their own. With datashare_enabled, they read that of all databases if they are asked to.
# redshift_connector 2.1.15, core.py and cursor.py; Redshift's JDBC driver, RedshiftDatabaseMetaData.java.
_STATUSES = {"show_discovery": "4", "datashare_enabled": "on"}
_LOGIN_SECONDS = 60
_LOGINS_AT_A_TIME = 4
_SUPER_COLUMN = """select from pg_attribute where atttypid in ('json'::regtype, 'pg_catalog.super'::regtype)
and attrelid >= 16384 limit 1"""
# Start-up parameters that are passed on. PostgreSQL refuses Redshift's, such as client_protocol_version.
_PASSED_ON = ("application_name", "datestyle", "extra_float_digits", "options")
# Redshift uses nested loops mainly for cross joins, merge joins only of tables that are distributed and sorted by the
# joined columns, and hash joins for all others. PostgreSQL expects few rows where it has no statistics. Then its nested
# loops over a hundred thousand rows, and its merge joins by one of several columns, take minutes.
# https://docs.aws.amazon.com/redshift/latest/dg/c-the-query-plan.html (read 2026-12)
PLANNER = {"enable_nestloop": "off", "enable_mergejoin": "off"}

Server = tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]


class Gateway:
    """Accepts clients on one port and serves each from `postgres`."""

    def __init__(self, postgres: Postgres, port: int) -> None:
        """Prepare; nothing listens yet."""
        self.postgres, self.port = postgres, port
        self.journal = Journal(postgres)
        self._writing: asyncio.Task | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task] = set()
        self._known: dict[str, Known] = {}
        self._open: dict[bytes, Session] = {}  # by the key for cancel requests that the client has
        self._logins = asyncio.Semaphore(_LOGINS_AT_A_TIME)
        self._sessions = 0

    async def start(self) -> None:
        """Listen. Raises OSError if the port is in use."""
        allow_open_files(2 * MAX_SESSIONS + 100)
        self._server = await asyncio.start_server(self._client, HOST, self.port, limit=1 << 20, backlog=MAX_SESSIONS)
        self._writing = asyncio.create_task(self.journal.run())

    async def stop(self) -> None:
        """Stop listening and end every session."""
        if self._server is not None:
            self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._writing is not None:
            self._writing.cancel()
        await self.journal.stop()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._clients.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                await self._serve(reader, writer)
        except wire.ProtocolError as problem:
            writer.write(wire.error("08P01", str(problem), severity="FATAL"))
        except Exception as problem:
            # A bug ends only its session. The client gets a message, the log gets the traceback.
            logging.exception("a session ended unexpectedly")
            text = f"internal error of the local warehouse: {type(problem).__name__}: {problem}"
            writer.write(wire.error("XX000", text, severity="FATAL"))
        except asyncio.CancelledError:
            writer.write(wire.error("57P01", "the local warehouse is shutting down", severity="FATAL"))
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_LOGIN_SECONDS):
            parameters = await self._startup(reader, writer)
            if parameters is None:
                return
            if self._sessions >= MAX_SESSIONS:
                # Redshift's words.
                text = f'connection limit "{MAX_SESSIONS}" exceeded for non-bootstrap users'
                writer.write(wire.error("53300", text, "close a connection, or wait", severity="FATAL"))
                return
            self._sessions += 1
        try:
            async with asyncio.timeout(_LOGIN_SECONDS):
                server = await self._login(reader, writer, parameters)
            if server is None:
                return
            try:
                await self.converse((reader, writer), server, parameters)
            finally:
                # Without a Terminate message, so that PostgreSQL rolls back.
                server[1].close()
        finally:
            self._sessions -= 1

    async def converse(self, client: Stream, server: Server, parameters: dict[str, str]) -> None:
        """Serve a logged-in client until one side disconnects.

        Args:
            client: the connection to the client.
            server: the connection to PostgreSQL, with the process id and secret for cancel requests.
            parameters: from the client's start-up message.
        """

        async def enter(database: str) -> Connection:
            return await self._enter(parameters | {"database": database})

        home = await self._connection(*server, parameters)
        session = Session(client, home, enter, self.journal, _protocol(parameters))
        self._open[home.key] = session
        try:
            await session.run()
        finally:
            if session.busy:  # the client disconnected during a statement
                await self._cancel(home.key)
            del self._open[home.key]

    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, parameters: dict[str, str]
    ) -> Connection:
        who = Who(parameters["user"], parameters["database"], struct.unpack_from("!I", key)[0])
        return Connection(reader, writer, key, who, await self._known_of(who.database))

    async def _enter(self, parameters: dict[str, str]) -> Connection:
        """Open another connection to PostgreSQL for a session.

        Raises:
            Refused: PostgreSQL refuses it.
        """
        reader, writer = await self._open_server(parameters)
        key = b""
        while True:
            kind, payload = await wire.read_message(reader)
            if kind == b"K":
                key = payload
            elif kind == b"E":
                writer.close()
                fields = wire.fields_of(payload)
                raise Refused(longnames.restore(fields["M"]), fields["C"])
            elif kind == b"Z":
                return await self._connection(reader, writer, key, parameters)

    async def _open_server(self, parameters: dict[str, str]) -> Stream:
        server = await asyncio.open_unix_connection(self.postgres.socket, limit=1 << 20)
        passed = {key: value for key, value in parameters.items() if key.lower() in _PASSED_ON}
        server[1].write(wire.startup_message(parameters["user"], parameters["database"], passed | PLANNER))
        return server

    async def _startup(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, str] | None:
        """Read requests until one starts a session; returns its parameters, or None for a cancel request."""
        while True:
            code, rest = await wire.read_startup(reader)
            if code in (wire.SSL_REQUEST, wire.GSS_REQUEST):
                writer.write(b"N")
                await writer.drain()
            elif code == wire.CANCEL_REQUEST:
                await self._cancel(rest)
                return None
            elif code >> 16 == 3:
                parameters = wire.parameters_of(rest)
                user = parameters.get("user", "")
                names = {"user": user, "database": parameters.get("database", user)}
                return parameters | {key: longnames.fitting(name.lower()) for key, name in names.items()}
            else:
                raise wire.ProtocolError(f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}")

    async def _cancel(self, key: bytes) -> None:
        """Ask PostgreSQL to cancel the statement of the session whose client got this process id and secret."""
        key = self._open[key].server.key if key in self._open else key
        with contextlib.suppress(OSError):
            _, server = await asyncio.open_unix_connection(self.postgres.socket)
            server.write(struct.pack("!II", len(key) + 8, wire.CANCEL_REQUEST) + key)
            await server.drain()
            server.close()

    async def _login(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parameters: dict[str, str]
    ) -> Server | None:
        user = parameters["user"]
        writer.write(wire.message(b"R", struct.pack("!I", 3)))  # AuthenticationCleartextPassword; loopback only
        await writer.drain()
        kind, payload = await wire.read_message(reader)
        if kind != b"p" or isinstance(payload, int):
            raise wire.ProtocolError(f"expected password response, got message type {kind[0]}")
        try:
            verifier = await self._verifier(user)
            if not login.matches(verifier, user, wire.string_at(payload, 0)[0]):
                text = f'password authentication failed for user "{user}"'
                writer.write(wire.error("28000", text, severity="FATAL"))
                return None
            server = await self._open_server(parameters)
        except (OSError, psycopg.OperationalError):
            text = "the PostgreSQL server of the local warehouse does not answer"
            hint = f"see {self.postgres.log}, then start the warehouse again"
            writer.write(wire.error("57P03", text, hint, severity="FATAL"))
            return None
        if (key := await self._greet(server[0], writer, parameters)) is not None:
            return *server, key
        server[1].close()
        return None

    async def _known_of(self, database: str) -> Known:
        if database not in self._known:
            question = "select v.late, c.relname from pg_redshift.special_views() v join pg_class c on c.oid = v.view"
            async with await psycopg.AsyncConnection.connect(self.postgres.conninfo(database)) as connection:
                rows = [row async for row in await connection.execute(question)]
                for short, name in await (await connection.execute("select * from pg_redshift.long_names")).fetchall():
                    longnames.remember(short, name)
                super_column = await (await connection.execute(_SUPER_COLUMN)).fetchone()
            known = self._known.setdefault(database, Known())
            known.late.update(name for late, name in rows if late)
            known.recursive.update(name for late, name in rows if not late)
            known.has_super |= super_column is not None
        return self._known[database]

    async def _verifier(self, user: str) -> str | None:
        database = self.postgres.conninfo("postgres")
        async with self._logins, await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            question = (
                "select rolpassword from pg_authid where rolname = %s and rolcanlogin"
                " and coalesce(rolvaliduntil > now(), true)"
            )
            row = await (await connection.execute(question, (user,))).fetchone()
        return row[0] if row else None

    async def _greet(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, parameters: dict[str, str]
    ) -> bytes | None:
        """Forward PostgreSQL's messages until it is ready; returns its process id and secret, None on error."""
        key = None
        while True:
            kind, payload = await wire.read_message(server)
            if kind == b"S" and payload.startswith(b"server_version\0"):
                payload = f"server_version\0{SERVER_VERSION}\0".encode()
            if kind == b"K":
                key = payload
                for name, value in _STATUSES.items():
                    writer.write(wire.parameter(name, value))
                if "client_protocol_version" in parameters:
                    writer.write(wire.parameter("server_protocol_version", str(_protocol(parameters))))
            writer.write(wire.message(kind, payload))
            if kind in b"ZE":
                await writer.drain()
                return key if kind == b"Z" else None


def _protocol(parameters: dict[str, str]) -> int:
    """Return the version of Redshift's protocol to use: what the client asked for, or the newest."""
    asked = parameters.get("client_protocol_version", "")
    return min(int(asked), BINARY) if asked.isascii() and asked.isdecimal() else TEXT


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files; a session has two sockets. The usual limits are 256 and 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
