"""Turn dbt's errors into one message: file and line, the mistake, and the fix."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from dbt.artifacts.schemas.results import NodeResult

from workbench import locate
from workbench.explain import FILE, explain, near
from workbench.locate import ErrorOf

_OWN_FILES = ("dbt_project.yml", "packages.yml", "dependencies.yml", "selectors.yml", "profiles.yml")
_YAML = re.compile(r"Error reading \w+: (\S+) - ")
_SCHEMA_FILE = re.compile(r"schema file at (\S+) is invalid|for unit test '\w+' in (\S+)")
_INVALID_YAML = re.compile(
    r"(?:Invalid \w+ config given in (?P<file>\S+) @ \w+: (?P<entry>\{.*\}) - )?"
    r"at path (?P<path>(?:\[[^\]]*\])+): (?P<reason>.+)"
)
# Messages that name no file: of a key and its value, and of code that has no end.
_WITHOUT_FILE = re.compile(r"Field \"(\w+)\" of type .*'(\w+)'\}$|unexpected EOF, .* got \"(.+)$", re.MULTILINE)
# Words of JSON schema.
_TYPES = {"'array'": "a list", "'object'": "a mapping", "'string'": "text", "'boolean'": "true or false"}
_YAML_KEYS = ["columns", "config", "data_tests", "database", "description", "meta", "name", "schema", "tables", "tests"]
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
    if isinstance(error, UnicodeDecodeError):
        return _not_utf8(folder)
    return _invalid_yaml(str(error), folder) or _problem(str(error), folder, names, _file(str(error), folder))


def of_result(
    result: NodeResult, folder: Path, names: Iterable[str], error_of: ErrorOf, hint_of: Callable[[str], str]
) -> Problem:
    """Return the reason why a node failed.

    Args:
        result: dbt's result.
        folder: the project.
        names: of the existing models and columns, to suggest a similar name.
        error_of: returns the error of a query on the warehouse; empty if there is none.
        hint_of: returns the warehouse's hint for the error of a query; empty if there is none.
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
    if "Database Error" not in text or not compiled or problem.file != file:
        return problem
    place, source = None, _read(folder, file)
    if file.endswith(".sql"):
        message = _words(text)[0]
        place = locate.in_sql(message, compiled, source, error_of)
        if "tokenizing" in message:
            place = place or locate.unclosed(source)
        elif "multiple commands" in message:
            place = locate.in_code(source, ";")
        elif keyword := re.search(r"\b[A-Z]{5,}\b", message):
            # Such as UNION.
            place = place or locate.in_code(source, rf"\b{keyword[0]}\b", only=True)
    elif problem.line:
        return problem
    elif node.resource_type == "test":
        place = locate.words_in_order(source, *_test_words(node))
    hint = problem.hint or hint_of(compiled) or None
    if f'{node.name}" does not exist' in text and node.config.materialized == "incremental":
        hint = "the first build has no table yet: read {{ this }} only in {% if is_incremental() %}"
    line, column = place or (None, None)
    return replace(problem, line=line, hint=hint, excerpt=locate.excerpt(source, line, column) if line else None)


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
            named += [match[3] for match in _WITHOUT_FILE.finditer(text) if match[3]]
            place = locate.word_in_code(source, file.endswith(".sql"), *named)
            if "argument to ref()" in text:
                place = locate.in_code(source, r"\bref\(\s*\w")
            line, column = place or (None, None)
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
        return next(filter(None, match.groups()))
    if match := _YAML.search(text):
        # dbt omits the first folder of the path.
        matching = [path for path in folder.glob(f"*/{match[1]}") if path.is_file()]
        return str(matching[0].relative_to(folder)) if matching else match[1]
    if "Syntax error near line" in text:
        # dbt does not name its own files.
        return next((file for file in _OWN_FILES if not _is_yaml(folder / file)), None)
    if match := _WITHOUT_FILE.search(text):
        return _only_file(folder, *filter(None, match.groups()))
    return None


def _invalid_yaml(text: str, folder: Path) -> Problem | None:
    """Return the problem of a key or value that dbt's schema does not allow; None if it is another problem."""
    if not (match := _INVALID_YAML.search(text)):
        return None
    keys = re.findall(r"'(\w+)'", match["path"])
    name = re.match(r"\{'name': '([^']+)'", match["entry"] or "")
    words, reason, hint = [*(name.groups() if name else ()), *keys], match["reason"], None
    if unexpected := re.search(r"\('(\w+)' was unexpected\)", reason):
        words.append(unexpected[1])
        reason, hint = f"{unexpected[1]!r} is not a key here", near(unexpected[1], _YAML_KEYS)
    for word, plain in _TYPES.items():
        reason = reason.replace(f"is not of type {word}", f"is not {plain}")
    if reason.endswith("is not a list"):
        hint = "begin each entry with -"
    elif keys[-1:] == ["name"]:
        hint = "use letters, digits and underscores"
    file = match["file"] or ("dbt_project.yml" if "dbt_project.yml" in text else _only_file(folder, *keys))
    message = f"{'.'.join(keys)}: {reason}" if keys else reason
    if not file:
        return Problem(message, hint=hint)
    source = _read(folder, file)
    line, column = locate.words_in_order(source, *words) or (None, None)
    return Problem(message, file, line, hint, locate.excerpt(source, line, column) if line else None)


def _only_file(folder: Path, *words: str) -> str | None:
    """Return the file of the project that contains all of the words; None if several do."""
    matching = [file for file in _project_files(folder) if all(word in _read(folder, file) for word in words)]
    return matching[0] if words and len(matching) == 1 else None


def _project_files(folder: Path) -> list[str]:
    folders = ("models", "seeds", "snapshots", "macros", "tests", "analyses")
    paths = [*folder.glob("*.yml"), *(path for name in folders for path in (folder / name).rglob("*.*"))]
    return [str(path.relative_to(folder)) for path in paths]


def _not_utf8(folder: Path) -> Problem:
    """Return the file that is not UTF-8, which dbt does not name."""
    for file in _project_files(folder):
        content = (folder / file).read_bytes() if (folder / file).is_file() else b""
        try:
            content.decode()
        except UnicodeDecodeError as error:
            return Problem("is not UTF-8", file, content.count(b"\n", 0, error.start) + 1, "save the file as UTF-8")
    return Problem("a file of the project is not UTF-8", hint="save it as UTF-8")


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
