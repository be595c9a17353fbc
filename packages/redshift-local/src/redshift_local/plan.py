"""What the gateway shall do for one statement of a client: the result of translating it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# The names of our helpers' schema begins with pg_, so that clients take it for a system schema.
HELPERS = "pg_redshift"


class Refused(Exception):  # noqa: N818 - the word that the project uses for it
    """The statement is not run. What the client gets instead is an error with these fields."""

    def __init__(self, text: str, code: str, hint: str = "") -> None:
        """Keep the message, its SQLSTATE and a hint."""
        super().__init__(text)
        self.text, self.code, self.hint = text, code, hint


def unsupported(construct: str, hint: str) -> Refused:
    """A refusal of what Redshift does and the local warehouse cannot do."""
    return Refused(f"not supported by the local warehouse: {construct}", "0A000", hint)


@dataclass
class Plan:
    """One statement, ready to be run.

    Attributes:
        sql: PostgreSQL's text of it.
        tag: command tag to report instead of PostgreSQL's, such as `CREATE USER`.
        job: something the gateway itself does instead of sending `sql` (COPY, UNLOAD).
        text: what the client wrote.
        reads: schema (or nothing) and name of every relation whose rows it reads.
        writes: the relation that it inserts rows into, as PostgreSQL text.
        makes_late_view: name of the late-binding view that it makes.
        renames: the name of a relation and the one that it gets.
        refused: whether `sql` only raises an error.
        label: the query group that it sets.
        aliased: the plan to run instead if columns are missing that are aliases of the same select list.
        checks: queries that say whether that is so: as it was written, then with all but one alias inlined.
        wants: names of tables whose columns have to be known before it can be translated.
        finish: makes the plan to run of those columns.
        columns: how the rows of its result are rewritten on their way to the client; known once it was described.
        takes_bytes: the numbers of its parameters that are VARBYTE; known once it was described.
    """

    sql: str
    tag: str | None = None
    job: Any = field(default=None, compare=False)
    text: str = ""
    refused: bool = False
    reads: frozenset[tuple[str, str]] = frozenset()
    writes: str = ""
    makes_late_view: str = ""
    renames: tuple[str, str] | None = None
    label: str | None = None
    aliased: "Plan | None" = None
    checks: tuple[str, ...] = ()
    wants: list[str] = field(default_factory=list)
    finish: "Callable[[dict[str, list[str]]], Plan] | None" = field(default=None, compare=False)
    columns: Any = field(default=None, compare=False)
    takes_bytes: frozenset[int] = frozenset()


def literal(text: str) -> str:
    """Write `text` as a PostgreSQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Write `name` as a quoted PostgreSQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def bare(quoted: str) -> str:
    """The name that a quoted identifier stands for."""
    return quoted[1:-1].replace('""', '"')


def block(*steps: str) -> str:
    """Several statements that succeed or fail as one, as one statement."""
    body = "".join(f"{step};\n" for step in steps)
    mark = "$b$"
    while mark in body:
        mark = f"$b{len(mark)}$"
    return f"DO {mark}BEGIN\n{body}END{mark}"


def raising(refusal: Refused) -> Plan:
    """A statement that fails with the fields of `refusal`: the server then treats it as any failed statement."""
    parts = (literal(part.replace("\0", "")) for part in (refusal.code, refusal.text, refusal.hint))
    return Plan(f"SELECT {HELPERS}.refuse({', '.join(parts)})", refused=True)
