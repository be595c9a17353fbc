"""Keys that dbt does not know, such as `materialised`. dbt ignores them, and warns without a line."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml

from mwaa_pipelines.yaml_lines import find
from workbench import locate
from workbench.problems import Problem

_CONFIG, _OBJECT, _TOP = "CustomKeyInConfigDeprecation", "CustomKeyInObjectDeprecation", "CustomTopLevelKeyDeprecation"
# A key of `config:` in the entry itself, such as `materialized: table`.
_MISPLACED = "PropertyMovedToConfigDeprecation"
_KEY_EVENTS = (_CONFIG, _OBJECT, _TOP, _MISPLACED)
# Names of dbt's events, for --warn-error-options.
EVENTS = (*_KEY_EVENTS, "DeprecationsSummary")
_DID_YOU_MEAN = "did you mean "


class UnknownKeys:
    """Collects dbt's warnings about unknown keys while it parses a project.

    dbt repeats a warning only if it reads the file again, so the warnings about unchanged files are stored.

    Args:
        folder: the project.
        store: a JSON file for the warnings.
    """

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder = folder
        self._store = store
        # Event, key and path of the key, by file.
        self._keys: dict[str, list[list[str]]] = {}

    def on_event(self, event: Any) -> None:
        """Collect a warning; dbt calls this with each event."""
        name, data = event.info.name, event.data
        if name not in _KEY_EVENTS:
            return
        file = Path(data.file)
        if file.is_absolute():
            if not file.resolve().is_relative_to(self._folder.resolve()):
                return
            file = file.resolve().relative_to(self._folder.resolve())
        # The event of a top-level key has a text only.
        key = data.msg.split()[-1] if name == _TOP else data.key
        path = "" if name == _TOP else data.key_path
        self._keys.setdefault(str(file), []).append([name, key, path])

    def problems(self) -> list[Problem]:
        """Return a problem for each unknown key in the project's own files, in the order of files and lines."""
        stored: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            stored = json.loads(self._store.read_text())
        unchanged = {file: entry["keys"] for file, entry in stored.items() if entry["sha256"] == self._hash(file)}
        keys = {**unchanged, **self._keys}
        self._store.parent.mkdir(parents=True, exist_ok=True)
        entries = {file: {"sha256": self._hash(file), "keys": listed} for file, listed in keys.items()}
        self._store.write_text(json.dumps(entries))
        problems = {self._problem(file, *key) for file, listed in keys.items() for key in listed}
        return sorted(filter(None, problems), key=lambda problem: (problem.file or "", problem.line or 0))

    def _problem(self, file: str, event: str, key: str, path: str) -> Problem | None:
        if key.lstrip("+") in _accepted():
            return None
        try:
            source = (self._folder / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            # A file of a package, whose path begins in the package.
            return None
        if file.endswith((".yml", ".yaml")):
            place = _in_yaml(source, key, [part for part in re.split(r"[.\[\]]+", path) if part])
        else:
            place = locate.in_code(source, rf"\b{re.escape(key)}\s*=") or locate.word_in_code(source, True, key)
        if not place:
            return None
        message = f"{key!r} must be below config:" if event == _MISPLACED else f"dbt does not know the key {key!r}"
        hint = "write it below config:" if event == _MISPLACED else _hint(event, file == "dbt_project.yml", key)
        return Problem(message, file, place[0], hint, locate.excerpt(source, *place))

    def _hash(self, file: str) -> str:
        with contextlib.suppress(OSError):
            return hashlib.sha256((self._folder / file).read_bytes()).hexdigest()
        return ""


def misspelt(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems whose key is similar to a known one. Macros of a project can read the other keys."""
    return [problem for problem in problems if (problem.hint or "").startswith(_DID_YOU_MEAN)]


def _in_yaml(source: str, key: str, path: list[str]) -> locate.Place | None:
    root = yaml.compose(source, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    keys = path if path[-1:] == [key] else [*path, key]
    # In dbt_project.yml, the path does not say whether the key is below models, seeds or others.
    for top in ([], *([name.value] for name, _ in root.value)):
        depth, mark = find(root, [*top, *keys])
        if depth == len(top) + len(keys):
            return mark.line + 1, mark.column + 1
    return locate.words_in_order(source, key)


def _hint(event: str, in_project_file: bool, key: str) -> str:
    if name := _similar(key, _known(event, in_project_file)):
        return f"{_DID_YOU_MEAN}{name}?"
    if event == _OBJECT and (name := _similar(key, _known(_CONFIG, in_project_file))):
        return f"{_DID_YOU_MEAN}config: {{{name}: …}}?"
    return "remove it, or move it below config: meta:"


def _similar(key: str, known: Collection[str]) -> str | None:
    # dbt's names have underscores.
    name = key.lstrip("+").replace("-", "_").lower()
    return name if name in known else next(iter(difflib.get_close_matches(name, known, 1, 0.75)), None)


@functools.cache
def _known(event: str, in_project_file: bool) -> tuple[str, ...]:
    """Return the names that dbt's JSON schemas know at a place."""
    from dbt.jsonschemas.jsonschemas import project_schema, resources_schema

    schema = project_schema() if in_project_file else resources_schema()
    if event == _TOP:
        return tuple(sorted(schema["properties"]))
    names: set[str] = set()
    for title, definition in schema["definitions"].items():
        # A definition that allows everything is `true`.
        if isinstance(definition, bool):
            continue
        if in_project_file or title.endswith("Config") == (event == _CONFIG):
            names |= {name.lstrip("+").replace("-", "_") for name in definition.get("properties", {})}
    return tuple(sorted(names))


@functools.cache
def _accepted() -> frozenset[str]:
    """Return the configs that dbt and the adapter use, although dbt's JSON schema may lack them."""
    from dbt.adapters.redshift.impl import RedshiftAdapter

    names = {field.name for field in dataclasses.fields(RedshiftAdapter.AdapterSpecificConfigs)}
    return frozenset({*names, "pre-hook", "post-hook", "pre_hook", "post_hook"})
