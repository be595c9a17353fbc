"""The result of translating one statement."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Clients treat schemas whose names begin with pg_ as system schemas.
HELPERS = "pg_redshift"


class Refused(Exception):  # noqa: N818 - the project's word
    """The statement is refused: the client gets an error with these fields."""

    def __init__(self, text: str, code: str, hint: str = "") -> None:
        """Store the message, its SQLSTATE and a hint."""
        super().__init__(text)
        self.text, self.code, self.hint = text, code, hint


def unsupported(construct: str, hint: str) -> Refused:
    """Return the refusal of a construct that Redshift has and the local warehouse has not."""
    return Refused(f"not supported by the local warehouse: {construct}", "0A000", hint)


@dataclass
class Plan:
    """One translated statement.

    Attributes:
        sql: the PostgreSQL statement.
        tag: command tag to report instead of PostgreSQL's, such as `CREATE USER`.
        action: run by the gateway instead of sending `sql` (COPY, UNLOAD, TRUNCATE).
        text: the statement as the client wrote it.
        reads: schema (or nothing) and name of every relation whose rows it reads.
        writes: the relation that it inserts rows into, as PostgreSQL text.
        makes_late_view: name of the late-binding view that it creates.
        makes_recursive_view: name of the view over a recursive CTE that it creates.
        renames: a relation's old and new name.
        refused: whether `sql` only raises an error.
        label: the query group that it sets.
        alias_fallback: the plan to run if a name is an alias of the same select list, and no column.
        alias_checks: queries that decide this: the statement as written, then with all aliases but one inlined.
        set_operations: the query, if it has UNION, INTERSECT or EXCEPT with named columns.
        with_super: returns the plan in which VARCHAR columns of set operations become SUPER where they meet SUPER.
        needs_columns: tables whose columns must be known before the statement can be translated.
        complete: returns the plan for these columns.
        remote: database, schema and name of the tables that it reads, if it names their database.
        localized: returns the plan that reads temporary tables instead of these.
        database: the database that a SHOW names.
        within: the database of the table or schema that it changes, if it is named.
        has_bare_reads: whether it reads tables without naming their database.
        bind: returns the plan for these bound values, of a SHOW.
        columns: how result rows are rewritten for the client; known after Describe.
    """

    sql: str
    tag: str | None = None
    action: Any = field(default=None, compare=False)
    text: str = ""
    refused: bool = False
    reads: frozenset[tuple[str, str]] = frozenset()
    writes: str = ""
    makes_late_view: str = ""
    makes_recursive_view: str = ""
    renames: tuple[str, str] | None = None
    label: str | None = None
    alias_fallback: "Plan | None" = None
    alias_checks: tuple[str, ...] = ()
    set_operations: str = ""
    with_super: "Callable[[], Plan] | None" = field(default=None, compare=False)
    needs_columns: list[str] = field(default_factory=list)
    complete: "Callable[[dict[str, list[str]]], Plan] | None" = field(default=None, compare=False)
    remote: frozenset[tuple[str, str, str]] = frozenset()
    localized: "Callable[[dict[tuple[str, str, str], str]], Plan] | None" = field(default=None, compare=False)
    database: str = ""
    within: str = ""
    has_bare_reads: bool = False
    bind: "Callable[[list[str | None]], Plan] | None" = field(default=None, compare=False)
    columns: Any = field(default=None, compare=False)


def literal(text: str) -> str:
    """Write `text` as a PostgreSQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Write `name` as a quoted PostgreSQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def bare(quoted: str) -> str:
    """Return the name without its quotes."""
    return quoted[1:-1].replace('""', '"')


def block(*steps: str) -> str:
    """Wrap several statements into one that succeeds or fails as a whole."""
    body = "".join(f"{step};\n" for step in steps)
    mark = "$b$"
    while mark in body:
        mark = f"$b{len(mark)}$"
    return f"DO {mark}BEGIN\n{body}END{mark}"


def raising(refusal: Refused) -> Plan:
    """Return a plan that fails in PostgreSQL with the fields of `refusal`, so that transactions behave as usual."""
    parts = (literal(part.replace("\0", "")) for part in (refusal.code, refusal.text, refusal.hint))
    return Plan(f"SELECT {HELPERS}.refuse({', '.join(parts)})", refused=True)
