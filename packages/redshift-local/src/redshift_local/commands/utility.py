"""Statements about sessions, cursors, transactions and maintenance. Statements inside them are translated too."""

from collections.abc import Callable
from dataclasses import dataclass

from redshift_local.commands.show import SETTINGS, show
from redshift_local.parse.words import Words
from redshift_local.plan import HELPERS, Plan, Refused, bare, block, literal, unsupported

_SETTINGS_NOT_HERE = {"enable_case_sensitive_identifier": ("on", "true"), "metadata_catalog": ()}
Translate = Callable[[Words], Plan]


def utility(words: Words, translate: Translate) -> Plan | None:
    """Translate the statement if it is one of these, else return None.

    Args:
        words: the statement.
        translate: translates the rest of it as a statement.
    """
    if handler := _HANDLERS.get(words.peek()):
        start = words.position
        words.position += 1
        plan = handler(words, translate)
        words.position = words.position if plan else start
        return plan
    return None


def _set(words: Words, _: Translate) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_SET.html"""
    scope = "SESSION " if words.take("session") else "LOCAL " if words.take("local") else ""
    if words.peek() == "authorization":
        words.position += 1
        who = "DEFAULT" if words.take("default") else words.string() if words.at_string() else words.name()
        return Plan(f"SET SESSION AUTHORIZATION {who}")
    if scope == "SESSION " and words.take("characteristics"):
        return Plan(f"SET SESSION CHARACTERISTICS {words.rest()}")
    name = words.peek()
    if name not in SETTINGS:
        return Plan(f"SET {scope}{words.rest()}")
    words.position += 1
    if not (words.take("to") or words.take("=")):
        raise words.error()
    value = words.string() if words.at_string() else words.rest()
    if words.left:
        raise words.error()
    if value.lower() in _SETTINGS_NOT_HERE.get(name, ()):
        raise unsupported(f"SET {name} TO {value}", "names are folded to lower case here")
    plan = Plan(f"SET {scope}{HELPERS}.{name} TO {literal(value)}")
    if name == "query_group":
        plan.label = "default" if value.lower() == "default" else value
    return plan


def _reset(words: Words, _: Translate) -> Plan:
    name = words.peek()
    if name == "use":
        return Plan("", action=Use(""))
    if name not in SETTINGS:
        return Plan(f"RESET {words.rest()}")
    return Plan(f"RESET {HELPERS}.{name}", label="default" if name == "query_group" else None)


def _vacuum(words: Words, _: Translate) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_VACUUM_command.html"""
    for start in (("full",), ("sort", "only"), ("delete", "only"), ("reindex",), ("recluster",)):
        words.take(*start)
    name = ".".join(words.dotted()) if words.left and words.peek() != "to" else ""
    return Plan(f"VACUUM {name}", tag="VACUUM")


def _analyze(words: Words, _: Translate) -> Plan:
    if words.take("compression"):
        raise unsupported("ANALYZE COMPRESSION", "nothing is compressed here; ask a cluster")
    words.take("verbose")
    name = ".".join(words.dotted()) if words.left and words.peek() not in ("predicate", "all") else ""
    columns = ""
    if words.take("("):
        columns = " (" + words.name()
        while words.take(","):
            columns += ", " + words.name()
        columns += ")"
    return Plan(f"ANALYZE {name}{columns}")


def _lock(words: Words, _: Translate) -> Plan:
    words.take("table")
    # In a block, so that it works outside a transaction.
    return Plan(block(f"LOCK TABLE {words.rest()} IN ACCESS EXCLUSIVE MODE"), tag="LOCK TABLE")


def _inner(before: str, words: Words, translate: Translate) -> Plan:
    inner = translate(words)
    if complete := inner.complete:
        inner.complete = lambda columns: Plan(f"{before} {complete(columns).sql}")
    if inner.action or inner.refused:
        return inner
    return Plan(f"{before} {inner.sql}", reads=inner.reads)


def _declare(words: Words, translate: Translate) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/declare.html"""
    name = words.name()
    if not words.take("cursor", "for"):
        raise words.error()
    return _inner(f"DECLARE {name} CURSOR FOR", words, translate)


def _prepare(words: Words, translate: Translate) -> Plan:
    before = f"PREPARE {words.name()}"
    if words.take("("):
        before += "(" + words.source()
        while not words.take(")"):
            before += " " + words.source()
        before += ")"
    if not words.take("as"):
        raise words.error()
    return _inner(f"{before} AS", words, translate)


def _explain(words: Words, translate: Translate) -> Plan:
    words.take("verbose")
    return _inner("EXPLAIN", words, translate)


@dataclass
class Truncate:
    """TRUNCATE commits the current transaction. https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html"""

    name: str

    async def run(self, session) -> str:
        """Empty the table and commit; returns the command tag."""
        await session.query_internal(f"TRUNCATE TABLE {self.name}")
        if session.in_transaction:
            await session.query_internal("COMMIT")
        return "TRUNCATE TABLE"


@dataclass
class DropDatabase:
    """DROP DATABASE. https://docs.aws.amazon.com/redshift/latest/dg/r_DROP_DATABASE.html"""

    name: str
    rest: str

    async def run(self, session) -> str:
        """Drop the database, to which the gateway itself may be connected; returns the command tag."""
        await session.leave_database(bare(self.name))
        await session.query_internal(f"DROP DATABASE {self.rest}")
        return "DROP DATABASE"


def _drop(words: Words, _: Translate) -> Plan | None:
    if not words.take("database"):
        return None
    start = words.position
    words.take("if", "exists")
    name = words.name()
    words.position = start
    return Plan("", action=DropDatabase(name, words.rest()))


@dataclass
class Use:
    """USE, and RESET USE with an empty name. https://docs.aws.amazon.com/redshift/latest/dg/r_USE_command.html"""

    database: str

    async def run(self, session) -> str:
        """Continue in another database; returns the command tag."""
        await session.use(self.database)
        return "USE" if self.database else "RESET"


def _use(words: Words, _: Translate) -> Plan:
    name = bare(words.name())
    if words.left:
        raise words.error()
    return Plan("", action=Use(name))


def _truncate(words: Words, _: Translate) -> Plan:
    words.take("table")
    name = ".".join(words.dotted())
    if words.left:
        raise words.error()
    return Plan("", action=Truncate(name))


def _cancel(words: Words, _: Translate) -> Plan:
    pid = words.source()
    if not pid.isdecimal():
        raise Refused(f'syntax error at or near "{pid}"', "42601")
    return Plan(f"SELECT pg_cancel_backend({pid})", tag="CANCEL")


def _as_it_is(verb: str) -> Callable[[Words, Translate], Plan]:
    return lambda words, _: Plan(f"{verb} {words.rest()}")


def _refresh(words: Words, _: Translate) -> Plan:
    if not words.take("materialized", "view"):
        raise words.error()
    name = ".".join(words.dotted())
    for word in ("restrict", "cascade"):
        words.take(word)
    return Plan(f"REFRESH MATERIALIZED VIEW {name}")


def _comment(words: Words, _: Translate) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_COMMENT.html"""
    start = words.position
    is_view = words.take("on", "view")
    name = words.dotted() if is_view or words.take("on", "column") else []
    after = words.position
    words.position = start
    sql = f"COMMENT {words.rest()}"
    if is_view:
        words.position = after
        view = ".".join(name)
        materialized = f"COMMENT ON MATERIALIZED VIEW {view} {words.rest()}"
        is_materialized = f"{HELPERS}.is_materialized({literal(view)})"
        return Plan(block(f"IF {is_materialized} THEN {materialized}; ELSE {sql}; END IF"), tag="COMMENT")
    if len(name) < 2:
        return Plan(sql)
    allow = f"PERFORM {HELPERS}.allow_column_comment({literal('.'.join(name[-3:-1]))})"
    return Plan(block(allow, sql), tag="COMMENT")


def _call(words: Words, _: Translate) -> Plan:
    raise unsupported("the statement CALL", "stored procedures run on a cluster only")


_HANDLERS: dict[str, Callable[[Words, Translate], Plan | None]] = {
    verb: _as_it_is(verb.upper())
    for verb in "begin start commit end rollback abort fetch close deallocate execute".split()  # noqa: SIM905
} | {
    "analyze": _analyze,
    "call": _call,
    "cancel": _cancel,
    "comment": _comment,
    "declare": _declare,
    "drop": _drop,
    "explain": _explain,
    "lock": _lock,
    "prepare": _prepare,
    "refresh": _refresh,
    "reset": _reset,
    "set": _set,
    "show": lambda words, _: show(words),
    "truncate": _truncate,
    "use": _use,
    "vacuum": _vacuum,
}
