"""Explain dbt's messages: the mistake in short, and the cure."""

import difflib
import re
from collections.abc import Callable
from typing import Any

FILE = re.compile(r"\(((?:models|seeds|snapshots|macros|tests|analyses)/[^()]+?\.\w+)\)")


def explain(text: str, names: list[str]) -> tuple[str, str] | None:
    """Return the mistake and its cure; None if the message is not known.

    Args:
        text: dbt's message.
        names: of the existing models, columns and tests, to suggest a similar name.
    """
    for pattern, explanation in _EXPLAINED:
        if match := pattern.search(text):
            return explanation(match, text, names)
    return None


def near(name: str, names: list[str]) -> str:
    """Return a hint with the names that are similar to `name`."""
    similar = difflib.get_close_matches(name, names, 3, 0.6)
    return f"did you mean {' or '.join(similar)}?" if similar else "no other name is similar"


def _not_found(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    name = match[2].split(".")[-1]
    if match[1] == "source":
        return f"source {match[2]} is not declared", "declare it in models/staging/sources.yml, or correct the name"
    return f"ref('{match[2]}') does not match a model", near(name, names)


def _no_relation(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    similar = near(match[1].split(".")[-1], names)
    return match[0], f"{similar}; read models with ref(), and other tables with source()"


def _no_column(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    message, name = f'column "{match[1]}" does not exist', match[1].split(".")[-1]
    if name in names:
        return (
            message,
            f"other tables have a column {name}; if a parent of this model changed, build it first: M=+<model>",
        )
    return message, near(name, names)


def _no_contract(*_: Any) -> tuple[str, str]:
    return (
        "has a contract from its folder, but no columns in a YAML file",
        "write its YAML beside it; make new-model shows an example",
    )


def _twice(match: re.Match[str], text: str, _: list[str]) -> tuple[str, str]:
    return f"{match[1]} exists twice: {', '.join(sorted(FILE.findall(text)))}", "rename or remove one of them"


def _no_macro(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    name = match[1].removeprefix("test_")
    if name != match[1]:
        return f"there is no test {name}", near(name, sorted({*_TESTS, *names}))
    return f"{name} is not a macro or variable of this project", "correct its name; macros are in macros/"


def _no_var(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    return f"var('{match[1]}') has no value", "give it one under vars in dbt_project.yml"


def _spaces(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    name = match[1]
    return f"{name!r} has a space in its name", f"rename it: {re.sub(r'[^a-z0-9_]+', '_', name.lower())}"


def _cycle(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    path = [name.split(".")[-1] for name in match[1].split(" --> ")]
    return f"models read each other in a circle: {' → '.join([*path, path[0]])}", "remove one of these ref() calls"


def _full_disk(*_: Any) -> tuple[str, str]:
    return "the disk is full", "free some space, and build again"


def _denied(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    kind, name = match.groups()
    if kind == "schema":
        hint = (
            f"run as a superuser: grant usage on schema {name} to <user>; grant select on all tables in schema {name} "
            "to <user>. Better, declare a source in this schema, which also grants it"
        )
    else:
        hint = f"run as a superuser: grant select on {name} to <user>"
    return match[0], hint


def _add_hint(hint: str) -> Callable[[re.Match[str], str, list[str]], tuple[str, str]]:
    return lambda match, _, __: (match[0], hint)


_TESTS = ("accepted_values", "not_null", "relationships", "unique")
_EXPLAINED = (
    (re.compile(r"the disk is full|No space left on device"), _full_disk),
    (
        re.compile(r"Syntax error near line \d+"),
        _add_hint("correct the indentation or quotes of this line or the line before"),
    ),
    (re.compile(r"permission denied for (schema|relation) (\S+)"), _denied),
    (
        re.compile(r"syntax error at .*"),
        _add_hint("check the commas, parentheses and keywords here and in the line before"),
    ),
    (re.compile(r"function \S+\(.*\) does not exist"), _add_hint("correct its name, or cast its arguments")),
    (re.compile(r"column .* must appear in the GROUP BY .*"), _add_hint("add it to GROUP BY, or aggregate it")),
    (re.compile(r"column reference .* is ambiguous"), _add_hint("write the alias of its table before it")),
    (re.compile(r'relation "([^"]+)" does not exist'), _no_relation),
    (re.compile(r"depends on a (node|source) named '([^']+)'"), _not_found),
    (re.compile(r"'columns' specification is missing"), _no_contract),
    (re.compile(r'found two \w+ with the name "([^"]+)"'), _twice),
    (re.compile(r"'(\w+)' is undefined"), _no_macro),
    (re.compile(r"Required var '(\w+)' not found"), _no_var),
    (re.compile(r"names cannot contain spaces:\s+\* '\w+\.\w+\.([^']+)'"), _spaces),
    (re.compile(r"Found a cycle: (.+)"), _cycle),
    (re.compile(r'column "?([\w.]+)"? does not exist'), _no_column),
)
