"""Turn dbt's errors into one message: file and line, the mistake, and the fix."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbt.artifacts.schemas.results import NodeResult

_FILE = re.compile(r"\(((?:models|seeds|snapshots|macros|tests|analyses)/[^()]+?\.\w+)\)")
_YAML = re.compile(r"Error reading \w+: (\S+) - ")
_SCHEMA_FILE = re.compile(r"schema file at (\S+) is invalid")
_LINE = re.compile(r"^\s*(?:Syntax error near )?line (\d+)\s*$", re.MULTILINE)
# PostgreSQL quotes a name only if it has no qualifier.
_NAMED = re.compile(r"[\"']([^\"']+)[\"']|column ([\w.]+) does not exist")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/|\{#.*?#\}", re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Lines that describe dbt's position, not the mistake.
_NOISE = re.compile(
    r"^\s*(Error reading \w+: .*|compiled code at .*|> (in|called by) .*|-{5,}|Raw Error:|in \"<unicode string>\".*)$"
)
_HEADING = re.compile(r"^(Compilation|Parsing|Runtime|Database|Dependency|Validation|Env var) Error( in .*)?$")


@dataclass(frozen=True)
class Problem:
    """A mistake in the project.

    Args:
        message: what is wrong.
        file: the file with the mistake, in the project.
        line: its line, from 1.
        hint: how to correct it.
        excerpt: the line, and a caret below the mistake.
    """

    message: str
    file: str | None = None
    line: int | None = None
    hint: str | None = None
    excerpt: str | None = None

    @property
    def place(self) -> str:
        """`file:line`, which editors and terminals open; empty if unknown."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file or ""


class ProjectError(Exception):
    """dbt cannot parse the project, or cannot compile a node."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.place}: {problem.message}" if problem.place else problem.message)
        self.problem = problem


def of_exception(error: BaseException, folder: Path, names: Iterable[str] = ()) -> Problem:
    """Return the reason why dbt could not start.

    Args:
        error: dbt's exception.
        folder: the project.
        names: of the existing models, to suggest a similar name.
    """
    return _problem(str(error), folder, names, _file(str(error), folder))


def of_result(result: NodeResult, folder: Path, names: Iterable[str] = ()) -> Problem:
    """Return the reason why a node failed.

    Args:
        result: dbt's result.
        folder: the project.
        names: of the existing models and columns, to suggest a similar name.
    """
    node: Any = result.node
    text = _COLOUR.sub("", result.message or f"{node.name} failed")
    if node.resource_type == "test" and result.status == "fail":
        words = (node.column_name,) if getattr(node, "column_name", None) else ()
        place = _line_of(folder, node.original_file_path, node.name, *words)
        return Problem(f"{_test(node)}: {result.failures} rows fail", node.original_file_path, place)
    if node.resource_type == "unit_test" and result.status == "fail":
        return Problem(text.strip(), node.original_file_path, _line_of(folder, node.original_file_path, node.name))
    return _problem(text, folder, names, _file(text, folder) or node.original_file_path)


def _problem(text: str, folder: Path, names: Iterable[str], file: str | None) -> Problem:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    words = [line for line in lines if not _HEADING.match(line)] or lines
    line_match = _LINE.search(text)
    line = int(line_match[1]) if line_match else None
    message = words[0] if words else text
    for pattern, explain in _EXPLAINED:
        if match := pattern.search(text):
            message, hint = explain(match, text, sorted(set(names)))
            break
    else:
        hint = None
    column = None
    named = [quoted or bare for quoted, bare in _NAMED.findall(words[0])] if words else []
    if line is None and file and (place := _find(folder, file, *named)):
        line, column = place
    excerpt = _excerpt(folder, file, line, column) if line and file else None
    return Problem(message, file, line, hint, excerpt)


def _file(text: str, folder: Path) -> str | None:
    if match := _FILE.search(text) or _SCHEMA_FILE.search(text):
        return match[1]
    if match := _YAML.search(text):
        # dbt omits the first folder of the path.
        matching = [path for path in folder.glob(f"*/{match[1]}") if path.is_file()]
        return str(matching[0].relative_to(folder)) if matching else match[1]
    return None


def _line_of(folder: Path, file: str, *words: str) -> int | None:
    """Return the number of the first line that contains one of the words; None if there is none."""
    place = _find(folder, file, *words)
    return place[0] if place else None


def _find(folder: Path, file: str, *words: str) -> tuple[int, int] | None:
    """Return line and column, from 1, of the first of the words that the file contains outside of comments.

    A name with a qualifier is searched as it is written, then without its qualifier.
    """
    try:
        text = (folder / file).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    if file.endswith(".sql"):
        text = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for word in words:
        for name, before in ((word, r"(?<![\w.])"), (word.split(".")[-1], r"(?<!\w)")):
            if match := re.search(rf"{before}{re.escape(name)}(?!\w)", text, re.IGNORECASE):
                start = text.rfind("\n", 0, match.start()) + 1
                return text.count("\n", 0, start) + 1, match.start() - start + 1
    return None


def _excerpt(folder: Path, file: str, line: int, column: int | None) -> str | None:
    """Return a line of a file, and below it a caret at the column."""
    try:
        text = (folder / file).read_text().splitlines()[line - 1]
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    if column is None:
        return text
    # Tabs stay, so that the caret is below its character on a terminal.
    return f"{text}\n{re.sub(r'[^\t]', ' ', text[: column - 1])}^"


def _test(node: Any) -> str:
    metadata = getattr(node, "test_metadata", None)
    column = getattr(node, "column_name", None)
    return f"{metadata.name} of {column}" if metadata and column else node.name


def near(name: str, names: list[str]) -> str:
    """Return a hint with the names that are similar to `name`."""
    similar = difflib.get_close_matches(name, names, 3, 0.6)
    return f"did you mean {' or '.join(similar)}?" if similar else "no other name is similar"


def _not_found(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    name = match[2].split(".")[-1]
    if match[1] == "source":
        return f"source {match[2]} is not declared", "declare it in models/staging/sources.yml, or correct the name"
    return f"ref('{match[2]}') does not match a model", near(name, names)


def _no_column(match: re.Match[str], _: str, names: list[str]) -> tuple[str, str]:
    message, name = f'column "{match[1]}" does not exist', match[1].split(".")[-1]
    if name in names:
        return (
            message,
            f"other tables have a column {name}; if a parent of this model changed, build it first: M=+<model>",
        )
    return message, near(name, names)


def _contract(_: re.Match[str], text: str, __: list[str]) -> tuple[str, str]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.count("|") == 5]
    mismatches = [f"{row[0]}: {_mismatch(row)}" for row in rows[2:]]
    return "breaks its contract: " + "; ".join(mismatches), "change the SELECT or the model's YAML"


def _mismatch(row: list[str]) -> str:
    if row[3] == "data type mismatch":
        return f"is {row[1]}, the contract says {row[2]}"
    return f"is not in the {'contract' if row[3] == 'missing in contract' else 'SELECT'}"


def _no_contract(*_: Any) -> tuple[str, str]:
    return (
        "has a contract from its folder, but no columns in a YAML file",
        "write its YAML beside it; make new-model shows an example",
    )


def _twice(match: re.Match[str], text: str, _: list[str]) -> tuple[str, str]:
    return f"{match[1]} exists twice: {', '.join(sorted(_FILE.findall(text)))}", "rename or remove one of them"


def _no_macro(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    return f"{match[1]} is not a macro or variable of this project", "correct its name; macros are in macros/"


def _no_var(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    return f"var('{match[1]}') has no value", "give it one under vars in dbt_project.yml"


def _spaces(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    name = match[1]
    return f"{name!r} has a space in its name", f"rename it: {re.sub(r'[^a-z0-9_]+', '_', name.lower())}"


def _cycle(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    path = [name.split(".")[-1] for name in match[1].split(" --> ")]
    return f"models read each other in a circle: {' → '.join([*path, path[0]])}", "remove one of these ref() calls"


def _seed_width(*_: Any) -> tuple[str, str]:
    return (
        "a value is longer than the column, which got its width from the first build of the seed",
        "rebuild it: make build FULL_REFRESH=1 M=<seed>+",
    )


def _seed_value(match: re.Match[str], _: str, __: list[str]) -> tuple[str, str]:
    return (
        f"value {match[2]!r} is not of type {match[1]}",
        "correct the CSV, or set the column's type under column_types in the seed's YAML",
    )


_EXPLAINED = (
    (re.compile(r"depends on a (node|source) named '([^']+)'"), _not_found),
    (re.compile(r"enforced contract that failed"), _contract),
    (re.compile(r"'columns' specification is missing"), _no_contract),
    (re.compile(r'found two \w+ with the name "([^"]+)"'), _twice),
    (re.compile(r"'(\w+)' is undefined"), _no_macro),
    (re.compile(r"Required var '(\w+)' not found"), _no_var),
    (re.compile(r"names cannot contain spaces:\s+\* '\w+\.\w+\.([^']+)'"), _spaces),
    (re.compile(r"Found a cycle: (.+)"), _cycle),
    (re.compile(r"Error in seed .*value too long for type", re.DOTALL), _seed_width),
    (re.compile(r'Error in seed .*invalid input syntax for type ([\w ]+): "([^"]*)"', re.DOTALL), _seed_value),
    (re.compile(r'column "?([\w.]+)"? does not exist'), _no_column),
)
