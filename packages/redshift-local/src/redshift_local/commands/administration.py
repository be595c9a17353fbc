"""Statements about users, schemas and databases, and forms of ALTER TABLE that sqlglot cannot parse."""

from collections.abc import Callable

from redshift_local.catalog.storage import Storage
from redshift_local.commands import privileges
from redshift_local.parse.words import Words
from redshift_local.plan import HELPERS, Plan, Refused, bare, block, literal, unsupported
from redshift_local.protocol.login import verifier


def _user(words: Words, *, create: bool) -> Plan:
    """CREATE USER and ALTER USER. https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html"""
    name = words.name()
    options, after, settings = [], [], []
    words.take("with")
    while words.left:
        if words.take("password", "disable"):
            after.append(f"PERFORM {HELPERS}.set_password({literal(bare(name))}, NULL)")
        elif words.take("password"):
            try:
                verified = verifier(words.string())
            except ValueError as problem:
                raise Refused(str(problem), "22023") from problem
            after.append(f"PERFORM {HELPERS}.set_password({literal(bare(name))}, {literal(verified)})")
        elif words.take("createdb") or words.take("nocreatedb"):
            options.append(words.tokens[words.position - 1].text)
        elif words.take("createuser"):
            options.append("SUPERUSER CREATEROLE")
        elif words.take("nocreateuser"):
            options.append("NOSUPERUSER NOCREATEROLE")
        elif words.take("valid", "until"):
            options.append(f"VALID UNTIL {literal(words.string())}")
        elif words.take("connection", "limit"):
            value = words.source()
            options.append(f"CONNECTION LIMIT {'-1' if value.lower() == 'unlimited' else value}")
        elif create and words.take("in", "group"):
            groups = [words.name()]
            while words.take(","):
                groups.append(words.name())
            after.append(f"GRANT {', '.join(groups)} TO {name}")
        elif not create and words.take("reset", "session", "timeout"):
            after.append(f"PERFORM {literal(name)}::regrole")
        elif words.take("syslog", "access") or words.take("session", "timeout") or words.take("externalid"):
            words.source()
            after.append(f"PERFORM {literal(name)}::regrole")
        elif not create and words.take("rename", "to"):
            return Plan(f"ALTER ROLE {name} RENAME TO {words.name()}", tag="ALTER USER")
        elif not create and (words.peek() in ("set", "reset")):
            settings.append(f"ALTER ROLE {name} {words.rest()}")
        else:
            raise words.error()
    first = f"CREATE ROLE {name} LOGIN {' '.join(options)}" if create else f"ALTER ROLE {name} {' '.join(options)}"
    steps = ([first] if create or options else []) + settings + after
    if not steps:
        raise Refused("syntax error at end of input", "42601")
    return Plan(block(*steps), tag="CREATE USER" if create else "ALTER USER")


def _create_schema(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_SCHEMA.html"""
    exists = words.take("if", "not", "exists")
    *database, name = [""] if words.peek() == "authorization" else words.dotted()
    owner = words.name() if words.take("authorization") else ""
    name = name or owner
    if words.take("quota"):
        words.rest()
    if words.left:
        raise words.error()
    sql = f"CREATE SCHEMA {'IF NOT EXISTS ' if exists and not owner else ''}{name}"
    if owner:
        sql += f" AUTHORIZATION {owner}"
    if owner and exists:
        # PostgreSQL cannot do both in one statement.
        sql = f"IF to_regnamespace({literal(name)}) IS NULL THEN {sql}; END IF"
        sql = block(sql)
    return Plan(sql, tag="CREATE SCHEMA", within=bare(database[0]).lower() if database else "")


def _drop_schema(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_DROP_SCHEMA.html"""
    exists = "IF EXISTS " if words.take("if", "exists") else ""
    named = [words.dotted()]
    while words.take(","):
        named.append(words.dotted())
    sql = f"DROP SCHEMA {exists}{', '.join(name[-1] for name in named)} {words.rest()}"
    databases = {bare(name[0]).lower() if len(name) > 1 else "" for name in named}
    if len(databases) > 1:
        raise unsupported("DROP SCHEMA in several databases", "write one statement for each")
    return Plan(sql, tag="DROP SCHEMA", within=databases.pop())


def _alter_schema(words: Words) -> Plan:
    name = words.name()
    if words.take("quota"):
        return Plan("SELECT 1 WHERE false", tag="ALTER SCHEMA")
    for verb in ("rename", "owner"):
        if words.take(verb, "to"):
            return Plan(f"ALTER SCHEMA {name} {verb.upper()} TO {words.name()}")
    raise words.error()


def _syntax_error(words: Words) -> Plan:
    words.position = 1
    raise words.error()


def _alter_owner(words: Words) -> Plan | None:
    """ALTER TABLE … OWNER TO, which sqlglot cannot parse; None for any other ALTER TABLE."""
    start = words.position
    words.take("if", "exists")
    name = ".".join(words.dotted())
    if words.take("owner", "to"):
        return Plan(f"ALTER TABLE {name} OWNER TO {words.name()}")
    if words.take("append", "from"):
        source = ".".join(words.dotted())
        for option in ("ignoreextra", "filltarget"):
            if words.take(option):
                raise unsupported(f"ALTER TABLE APPEND with {option.upper()}", "insert and delete instead")
        move = (f"INSERT INTO {name} SELECT * FROM {source}", f"DELETE FROM {source}")  # noqa: S608 - quoted names
        return Plan(block(*move), tag="ALTER TABLE APPEND")
    if words.take("alter", "encode", "auto"):
        return Plan(block(f"PERFORM {literal(name)}::regclass"), tag="ALTER TABLE")
    if plan := _alter_encodings(words, name):
        return plan
    if words.take("row", "level", "security"):
        raise unsupported("ROW LEVEL SECURITY", "it works on a cluster only")
    words.position = start
    return None


def _alter_encodings(words: Words, name: str) -> Plan | None:
    """ALTER COLUMN … ENCODE …, which can be repeated; None for anything else."""
    start, storage = words.position, Storage()
    while words.take("alter", "column"):
        column = words.name()
        if not words.take("encode"):
            break
        storage.of_column(bare(column), f"encode {words.source().lower()}")
        if not words.take(","):
            return Plan(block(*storage.steps(name)), tag="ALTER TABLE")
    words.position = start
    return None


def _alter_materialized_view(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_MATERIALIZED_VIEW.html"""
    name = ".".join(words.dotted())
    for word in ("yes", "no"):
        if words.take("auto", "refresh", word):
            set_it = f"PERFORM {HELPERS}.set_auto_refresh({literal(name)}, {word == 'yes'})"
            return Plan(block(f"PERFORM {literal(name)}::regclass", set_it), tag="ALTER MATERIALIZED VIEW")
    if words.take("owner", "to"):
        return Plan(f"ALTER MATERIALIZED VIEW {name} OWNER TO {words.name()}")
    raise words.error()


def _database(words: Words, verb: str) -> Plan:
    """CREATE and ALTER DATABASE. https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_DATABASE.html"""
    sql = f"{verb} DATABASE {words.name()}"
    if words.peek() == "from" or (words.peek() == "with" and words.peek(1) in ("data", "permissions", "no")):
        raise unsupported("databases of datashares and catalogs", "they exist on a cluster only")
    words.take("with")
    while words.left:
        if words.take("owner"):
            words.take("=") or words.take("to")
            sql += f" OWNER {'TO ' if verb == 'ALTER' else ''}{words.name()}"
        elif words.take("connection", "limit"):
            value = words.source()
            sql += f" CONNECTION LIMIT {'-1' if value.lower() == 'unlimited' else value}"
        elif words.take("isolation", "level"):
            words.source()
        elif words.take("collate", "case_sensitive") or words.take("collate", "cs"):
            continue
        elif words.peek() == "collate":
            raise unsupported("COLLATE CASE_INSENSITIVE", "compare lower(x) instead")
        elif verb == "ALTER" and words.take("rename", "to"):
            sql += f" RENAME TO {words.name()}"
        else:
            raise words.error()
    if verb == "ALTER" and sql.count(" ") == 2:
        return Plan("SELECT 1 WHERE false", tag="ALTER DATABASE")
    return Plan(sql)


_COMMANDS: dict[tuple[str, ...], Callable[[Words], Plan | None]] = privileges.COMMANDS | {
    ("create", "user"): lambda words: _user(words, create=True),
    ("alter", "user"): lambda words: _user(words, create=False),
    ("create", "schema"): _create_schema,
    ("alter", "schema"): _alter_schema,
    ("drop", "schema"): _drop_schema,
    ("alter", "table"): _alter_owner,
    ("alter", "view"): _alter_owner,
    ("alter", "materialized", "view"): _alter_materialized_view,
    ("create", "database"): lambda words: _database(words, "CREATE"),
    ("alter", "database"): lambda words: _database(words, "ALTER"),
    ("create", "domain"): _syntax_error,
    ("create", "extension"): _syntax_error,
}


def command(words: Words) -> Plan | None:
    """Translate the statement if it is one of these commands."""
    for start, handle in _COMMANDS.items():
        if words.take(*start):
            if plan := handle(words):
                return plan
            words.position = 0
    return None
