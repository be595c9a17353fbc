"""Turn dbt's errors into one message: file and line, the mistake, and the fix."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from dbt.artifacts.schemas.results import NodeResult

from workbench import locate
from workbench.explain import FILE, explain
from workbench.locate import ErrorOf

_OWN_FILES = ("dbt_project.yml", "packages.yml", "dependencies.yml", "selectors.yml", "profiles.yml")
_YAML = re.compile(r"Error reading \w+: (\S+) - ")
_SCHEMA_FILE = re.compile(r"schema file at (\S+) is invalid")
_LINE = re.compile(r"^\s*(?:Syntax error near )?line (\d+)\s*$", re.MULTILINE)
_QUOTED = re.compile(r"[\"']([^\"']+)[\"']")
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


def of_result(result: NodeResult, folder: Path, names: Iterable[str], error_of: ErrorOf) -> Problem:
    """Return the reason why a node failed.

    Args:
        result: dbt's result.
        folder: the project.
        names: of the existing models and columns, to suggest a similar name.
        error_of: returns the error of a query on the warehouse; empty if there is none.
    """
    node: Any = result.node
    file = node.original_file_path
    text = _COLOUR.sub("", result.message or f"{node.name} failed")
    if node.resource_type == "test" and result.status == "fail":
        line, _ = locate.words_in_order(_read(folder, file), *_test_words(node)) or (None, None)
        return Problem(f"{_test(node)}: {result.failures} rows fail", file, line)
    if node.resource_type == "unit_test" and result.status == "fail":
        line, _ = locate.words_in_order(_read(folder, file), node.name) or (None, None)
        return Problem(text.strip(), file, line)
    if node.resource_type == "seed" and (problem := _seed(node, text, folder)):
        return problem
    if "enforced contract that failed" in text:
        return _contract(node, text, folder)
    problem = _problem(text, folder, names, _file(text, folder) or file)
    compiled = getattr(node, "compiled_code", None)
    if "Database Error" in text and compiled and problem.file == file and file.endswith(".sql"):
        source = _read(folder, file)
        line, column = locate.in_sql(_words(text)[0], compiled, source, error_of) or (None, None)
        return replace(problem, line=line, excerpt=locate.excerpt(source, line, column) if line else None)
    return problem


def _problem(text: str, folder: Path, names: Iterable[str], file: str | None) -> Problem:
    words = _words(text)
    line_match = _LINE.search(text)
    line = int(line_match[1]) if line_match else None
    message, hint = explain(text, sorted(set(names))) or (words[0] if words else text, None)
    column = None
    if file:
        source = _read(folder, file)
        if line is None and words:
            named = [name for quoted in _QUOTED.findall(words[0]) for name in (quoted, quoted.removeprefix("test_"))]
            line, column = locate.word_in_code(source, file.endswith(".sql"), *named) or (None, None)
        return Problem(message, file, line, hint, locate.excerpt(source, line, column) if line else None)
    return Problem(message, file, line, hint)


def _words(text: str) -> list[str]:
    """Return the lines of dbt's message that describe the mistake."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    return [line for line in lines if not _HEADING.match(line)] or lines


def _read(folder: Path, file: str) -> str:
    try:
        return (folder / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _file(text: str, folder: Path) -> str | None:
    if match := FILE.search(text) or _SCHEMA_FILE.search(text):
        return match[1]
    if match := _YAML.search(text):
        # dbt omits the first folder of the path.
        matching = [path for path in folder.glob(f"*/{match[1]}") if path.is_file()]
        return str(matching[0].relative_to(folder)) if matching else match[1]
    if "Syntax error near line" in text:
        # dbt does not name its own files.
        return next((file for file in _OWN_FILES if not _is_yaml(folder / file)), None)
    return None


def _is_yaml(path: Path) -> bool:
    try:
        yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return False
    except OSError:
        return True
    return True


def _test(node: Any) -> str:
    metadata = getattr(node, "test_metadata", None)
    column = getattr(node, "column_name", None)
    return f"{metadata.name} of {column}" if metadata and column else node.name


def _test_words(node: Any) -> list[str]:
    """Return the words that lead to a test in its YAML file: model, column, test."""
    metadata = getattr(node, "test_metadata", None)
    attached = getattr(node, "attached_node", None) or ""
    words = [attached.split(".")[2]] if attached.count(".") >= 2 else []
    return [*words, *filter(None, [getattr(node, "column_name", None)]), metadata.name if metadata else node.name]


def _seed(node: Any, text: str, folder: Path) -> Problem | None:
    """Return the problem of a value that its column cannot store; None if it is another problem."""
    wrong_type = re.search(r'invalid input syntax for type ([\w ]+): "([^"]*)"', text)
    too_long = re.search(r"value too long for type [\w ]+\((\d+)\)", text)
    file, delimiter = node.original_file_path, node.config.delimiter or ","
    if match := re.search(r"Row (\d+) has (\d+) values, but Table only has (\d+) columns", text):
        line, source = locate.line_of_row(folder / file, delimiter, int(match[1])), _read(folder, file)
        hint = "quote a value that contains the separator, or correct the row"
        message = f"the row has {match[2]} values, and there are {match[3]} columns"
        return Problem(message, file, line, hint, locate.excerpt(source, line, None) if line else None)
    if not wrong_type and not too_long:
        return None
    types = {name.lower(): kind.lower() for name, kind in (node.config.column_types or {}).items()}

    def is_wrong(column: str, value: str) -> bool:
        kind = types.get(column.lower(), "")
        if wrong_type:
            return value == wrong_type[2] and not kind.startswith(("varchar", "character", "text"))
        return len(value.encode()) > int(too_long[1]) and (f"({too_long[1]})" in kind or not types)

    line, column, value = locate.in_csv(folder / file, delimiter, is_wrong) or (None, "", "")
    of_column = f"column {column}: " if column else ""
    if wrong_type:
        message = f"{of_column}value {wrong_type[2]!r} is not of type {wrong_type[1]}"
        hint = "correct the CSV, or set the column's type under column_types in the seed's YAML"
    else:
        message = f"{of_column}value {value!r} is longer than {too_long[1]} bytes, the width of the column"
        hint = (
            "set a wider type under column_types in the seed's YAML. Without one, the first build of the seed decided: "
            "make build FULL_REFRESH=1 M=<seed>+"
        )
    source = _read(folder, file)
    position = source.splitlines()[line - 1].find(value) + 1 if line else None
    return Problem(message, file, line, hint, locate.excerpt(source, line, position or None) if line else None)


def _contract(node: Any, text: str, folder: Path) -> Problem:
    """Return the columns that break a contract, and the place of the first of them."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.count("|") == 5]
    message = "breaks its contract: " + "; ".join(f"{row[0]}: {_mismatch(row)}" for row in rows[2:])
    hint = "change the SELECT or the model's YAML"
    file = node.original_file_path
    if not rows[2:]:
        return Problem(message, file, hint=hint)
    column, source = rows[2][0], _read(folder, file)
    place = locate.of_projection(column, node.compiled_code or "", source)
    if not place and node.patch_path:
        file = node.patch_path.split("://")[1]
        source = _read(folder, file)
        place = locate.words_in_order(source, node.name, column)
    line, position = place or (None, None)
    return Problem(message, file, line, hint, locate.excerpt(source, line, position) if line else None)


def _mismatch(row: list[str]) -> str:
    if row[3] == "data type mismatch":
        return f"is {row[1]}, the contract says {row[2]}"
    return f"is not in the {'contract' if row[3] == 'missing in contract' else 'SELECT'}"
