"""Write the SQL and YAML of a new model by the conventions: `python -m workbench new-model NAME LAYER`."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml
from sqlfluff.dialects.dialect_redshift_keywords import redshift_reserved_keywords

from mwaa_local.settings import SetupError

_TYPE = "make new-model NAME=<name> LAYER=staging|marts, such as NAME=late_carriers LAYER=marts"
# Redshift allows 127 bytes, the local warehouse 63, and dbt appends suffixes while it builds.
_LONGEST = 50
_RESERVED = {word.lower() for word in redshift_reserved_keywords.split()}

# Templates for str.format: a literal brace is doubled.
_STAGING_SQL = """\
select
{columns}
from {{{{ source('{source}', '{table}') }}}}
"""
_STAGING_YAML = """\
models:
  - name: {name}
    description: {description}
    columns:
"""
_COLUMN_YAML = """\
      - name: {name}
        description: {description}
"""
# A guess that the tests check: the first column of a table is usually its key.
_KEY_YAML = "        data_tests: [unique, not_null]\n"
_MART_SQL = """\
{{# Read other models by {{{{ ref('<model>') }}}}, and name each column here and in the YAML. #}}
select cast('change me' as varchar(32)) as {name}_key
"""
_MART_YAML = """\
models:
  - name: {name}
    description: One row for each … (state what, and the period).
    constraints:
      - type: primary_key
        columns: [{name}_key]
        # Redshift uses it for query plans but does not enforce it. The tests below do.
        warn_unenforced: false
    columns:
      - name: {name}_key
        description: Key of the row.
        data_type: varchar(32)
        constraints:
          - type: not_null
        data_tests: [unique, not_null]
"""


def new_model(project: Path, name: str, layer: str) -> list[Path]:
    """Write the two files, and return their paths.

    Args:
        project: the dbt project.
        name: of the model.
        layer: `staging` or `marts`.

    Raises:
        SetupError: the name or layer is invalid; nothing was written.
    """
    _check(project, name, layer)
    folder = project / "models" / layer
    if layer == "staging":
        sql, properties = _staging(project, name)
    else:
        sql, properties = _MART_SQL.format(name=name), _MART_YAML.format(name=name)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.sql", folder / f"{name}.yml"]
    for path, text in zip(written, (sql, properties), strict=True):
        path.write_text(text)
    return written


def check_name(name: str, usage: str) -> None:
    """Check that Redshift allows a name without quotes.

    Args:
        name: of a model or a schema.
        usage: the command to type, for messages.

    Raises:
        SetupError: Redshift does not allow it; the text says why.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > _LONGEST:
        raise SetupError(
            f"NAME={name!r} must have only lower-case letters, digits and underscores, start with a letter, "
            f"and be no longer than {_LONGEST}; type: {usage}"
        )
    if name in _RESERVED:
        raise SetupError(f"NAME={name} is a reserved word of Redshift; choose another, such as {name}_facts")


def _check(project: Path, name: str, layer: str) -> None:
    if layer not in {"staging", "marts"}:
        raise SetupError(f"LAYER={layer!r} must be staging or marts; type: {_TYPE}")
    check_name(name, _TYPE)
    if layer == "staging" and not name.startswith("stg_"):
        raise SetupError(f"NAME={name}: the name of a staging model must start with stg_; type: NAME=stg_{name}")
    if layer == "marts" and name.startswith(("stg_", "audit_")):
        raise SetupError(f"NAME={name} has the prefix of another layer; type: NAME={name.split('_', 1)[1]}")
    if name == yaml.safe_load((project / "dbt_project.yml").read_text())["name"]:
        raise SetupError(
            f"NAME={name} is the name of the project, so `--select {name}` would select all models; choose another"
        )
    paths = [path for path in project.rglob(f"{name}.*") if path.suffix in {".sql", ".yml", ".csv", ".py"}]
    if paths := [path for path in paths if path.relative_to(project).parts[0] in {"models", "seeds", "snapshots"}]:
        raise SetupError(f"NAME={name}: {paths[0].relative_to(project.parent)} already exists; choose another name")


def _staging(project: Path, name: str) -> tuple[str, str]:
    table_name = name.removeprefix("stg_")
    sources = _sources(project)
    if table_name not in sources:
        raise SetupError(
            f"no source has a table {table_name}; there are: {', '.join(sorted(sources)) or 'none'}. Add it, with its "
            "columns, to models/staging/sources.yml: docs/how-to/add-a-source.md has an example"
        )
    source, table = sources[table_name]
    if not (columns := table.get("columns")):
        raise SetupError(f"the source table {source}.{table_name} lists no columns; add `columns:` to it first")
    sql = _STAGING_SQL.format(
        columns=",\n".join(f"    {_quoted(column['name'])}" for column in columns), source=source, table=table_name
    )
    properties = _STAGING_YAML.format(name=name, description=_description(table))
    for number, column in enumerate(columns):
        properties += _COLUMN_YAML.format(name=column["name"], description=_description(column))
        properties += "" if number else _KEY_YAML
    return sql, properties


def _sources(project: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the source and properties of each source table by its name."""
    sources = {}
    for path in sorted(project.glob("models/**/*.yml")):
        for source in (yaml.safe_load(path.read_text()) or {}).get("sources") or []:
            for table in source.get("tables") or []:
                sources[table["name"]] = (source["name"], table)
    return sources


def _quoted(column: str) -> str:
    return f'"{column}"' if column.lower() in _RESERVED else column


def _description(properties: dict[str, Any]) -> str:
    text = properties.get("description") or f"{properties['name']}, as the source has it."
    # On one line, without the "..." that PyYAML appends to a scalar.
    return yaml.safe_dump(text.strip(), width=sys.maxsize, allow_unicode=True).removesuffix("\n").removesuffix("\n...")
