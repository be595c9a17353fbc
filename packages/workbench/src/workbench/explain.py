"""Explain dbt's messages: the mistake in short, and the cure."""

import difflib
import re
from collections.abc import Callable

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


def _described_twice(match: re.Match[str], text: str, _: list[str]) -> tuple[str, str]:
    files = sorted(re.findall(r"^[\s-]*(\S+\.ya?ml)$", text, re.MULTILINE))
    return f"{match[1]} is described twice: {', '.join(files)}", "remove one of the entries"


def _no_materialization(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    return f"there is no materialization {match[1]}", near(match[1], _MATERIALIZATIONS)


def _no_unit_tested_model(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    return f"unit test {match[2]}: there is no model '{match[1]}'", near(match[1], names)


def _wrong_field(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    periods = "a period is minute, hour or day" if "period" in match[2] else "correct its value"
    return f"{match[1]} has an invalid value: {match[2]}", periods


def _no_column(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    message, name = f'column "{match[1]}" does not exist', match[1].split(".")[-1]
    if name in names:
        return (
            message,
            f"other tables have a column {name}; if a parent of this model changed, build it first: M=+<model>",
        )
    similar = near(name, names)
    if similar.startswith("no"):
        similar += ". Text needs single quotes, and the alias before a column must be one of this query"
    return message, similar


def _no_method(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    return f"{match[1]}: is not a method of dbt's selectors", near(match[1], _METHODS)


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


def _fixed(message: str, hint: str) -> Callable[[re.Match[str], str, list[str]], tuple[str, str]]:
    return lambda *_: (message, hint)


def _add_hint(hint: str) -> Callable[[re.Match[str], str, list[str]], tuple[str, str]]:
    return lambda match, _, __: (match[0], hint)


_TESTS = ("accepted_values", "not_null", "relationships", "unique")
_METHODS = [
    "config",
    "exposure",
    "fqn",
    "group",
    "package",
    "path",
    "resource_type",
    "source",
    "state",
    "tag",
    "test_type",
]
_MATERIALIZATIONS = ["ephemeral", "incremental", "materialized_view", "table", "view"]
_OTHER_STATEMENTS = "alter|create|delete|drop|grant|insert|merge|truncate|update"
_EXPLAINED = (
    (
        re.compile(r"the disk is full|No space left on device"),
        _fixed("the disk is full", "free some space, and build again"),
    ),
    (
        re.compile(r"Syntax error near line \d+"),
        _add_hint("correct the indentation or quotes of this line or the line before"),
    ),
    (re.compile(r"permission denied for (schema|relation) (\S+)"), _denied),
    (
        re.compile(rf'syntax error at or near "(?:{_OTHER_STATEMENTS})"', re.IGNORECASE),
        _add_hint("a model is one SELECT; dbt creates the table and writes its rows"),
    ),
    (
        re.compile(r"multiple commands into a prepared statement"),
        _fixed("the model has more than one statement", "a model is one SELECT; remove the semicolon"),
    ),
    (
        re.compile(r"Error tokenizing"),
        _fixed("a quote or a comment has no end", "close it; a quote inside of text is written twice"),
    ),
    (
        re.compile(r"syntax error at end of input"),
        _add_hint("complete the SELECT; a table, a column or a parenthesis is missing"),
    ),
    (
        re.compile(r"syntax error at .*"),
        _add_hint("check the commas, parentheses and keywords here and in the line before"),
    ),
    (re.compile(r"function \S+\(.*\) does not exist"), _add_hint("correct its name, or cast its arguments")),
    (re.compile(r"column .* must appear in the GROUP BY .*"), _add_hint("add it to GROUP BY, or aggregate it")),
    (re.compile(r"column reference .* is ambiguous"), _add_hint("write the alias of its table before it")),
    (re.compile(r"column .* specified more than once"), _add_hint("give one of them another name with AS")),
    (re.compile(r"each \w+ query must have the same .*"), _add_hint("list the same columns in each SELECT")),
    (re.compile(r"aggregate functions are not allowed in .*"), _add_hint("filter after GROUP BY with HAVING")),
    (re.compile(r"division by zero"), _add_hint("divide by nullif(<divisor>, 0)")),
    (re.compile(r"\w+ out of range$", re.MULTILINE), _add_hint("cast to a larger type, such as bigint, before")),
    (
        re.compile(r"(?:invalid input syntax for type|date/time field value out of range:).*"),
        _add_hint("correct the value, or leave out the rows that have it"),
    ),
    (
        re.compile(r"communication error|Connection refused|Connection reset|server closed the connection"),
        _fixed("the warehouse did not answer", "if it was stopped, start it again with: make up"),
    ),
    (re.compile(r"'(\w+)' is not a valid method name"), _no_method),
    (
        re.compile(r"no profile was specified for this dbt project"),
        _fixed("dbt_project.yml names no profile", "add a line to it: profile: <the first key of profiles.yml>"),
    ),
    (re.compile(r"No materialization '(\w+)' was found"), _no_materialization),
    (
        re.compile(r"name argument to ref\(\) must be a string"),
        _fixed("the name in ref() has no quotes", "write ref('<model>')"),
    ),
    (
        re.compile(r"unexpected EOF, expected (\S+),"),
        lambda match, _, __: (f"{match[1]} is missing", "close the Jinja"),
    ),
    (re.compile(r"entries for the same resource named (\w+)"), _described_twice),
    (re.compile(r"Unable to find model '(?:\w+\.)?(\w+)' for unit test '(\w+)'"), _no_unit_tested_model),
    (re.compile(r'Field "(\w+)" of type .* has invalid value (.*)'), _wrong_field),
    (
        re.compile(r"the value of '\w+' is not a list|a list element for '\w+' does not have a name attribute"),
        _add_hint("begin each entry with: - name:"),
    ),
    (re.compile(r'relation "([^"]+)" does not exist'), _no_relation),
    (re.compile(r"depends on a (node|source) named '([^']+)'"), _not_found),
    (
        re.compile(r"'columns' specification is missing"),
        _fixed(
            "has a contract from its folder, but no columns in a YAML file",
            "write its YAML beside it; make new-model shows an example",
        ),
    ),
    (re.compile(r'found two \w+ with the name "([^"]+)"'), _twice),
    (re.compile(r"'(\w+)' is undefined"), _no_macro),
    (re.compile(r"Required var '(\w+)' not found"), _no_var),
    (re.compile(r"names cannot contain spaces:\s+\* '\w+\.\w+\.([^']+)'"), _spaces),
    (re.compile(r"Found a cycle: (.+)"), _cycle),
    (re.compile(r'column "?([\w.]+)"? does not exist'), _no_column),
)
