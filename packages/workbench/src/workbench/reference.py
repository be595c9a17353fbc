"""Generates docs/reference/ from the code, and builds the site: `python -m workbench site`."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from dbt_score.config import Config
from dbt_score.rule_registry import RuleRegistry

from audit_report import DBT_PACKAGE
from mwaa_local.settings import REPOSITORY
from mwaa_pipelines.settings import json_schema
from mwaa_release.cli import app
from workbench.check_conventions import RULES

PAGES = REPOSITORY / "docs" / "reference"
# In the schema of pipelines.yml.
_ENTRIES = ("Pipeline", "LoadedTable")
_NOTE = "<!-- Written by make site; change {source}, not this page. -->\n\n"


def markdown_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    bounds = [str(schema[name]) for name in ("minimum", "maximum") if name in schema]
    name = {"array": "list", "object": "mapping", None: "any"}.get(schema.get("type"), schema.get("type"))
    return f"{name} ({' to '.join(bounds)})" if bounds else str(name)


def settings() -> str:
    """Return the page about the settings of pipelines.yml, from their JSON schema."""
    schemas = json.loads(json_schema())["$defs"]
    pipeline, table = (
        markdown_table(("setting", "type", "default", "meaning"), _settings(schemas[name])) for name in _ENTRIES
    )
    return (
        _NOTE.format(source="mwaa_pipelines/settings.py")
        + "# Pipeline settings\n\nAn entry of `dags/pipelines.yml`. Settings under `defaults` apply to "
        "every entry that does not say otherwise; a key that is not listed here is refused.\n\n"
        f"{pipeline}\n## load\n\nAn entry of the setting `load`: [a table](../how-to/load-files.md).\n\n{table}"
    )


def _settings(schema: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"`{name}`",
            _type(setting),
            "required" if name in schema["required"] else f"`{json.dumps(setting.get('default'))}`",
            setting.get("description", ""),
        )
        for name, setting in schema["properties"].items()
    ]


def audit_columns() -> str:
    """Return the page about the audit table and views, and the variables of the audit trail."""
    types = dict(re.findall(r"'(\w+)': '([^']+)',", (DBT_PACKAGE / "macros" / "audit_columns.sql").read_text()))
    models = {path.stem: _model(path) for path in sorted((DBT_PACKAGE / "models").glob("*.yml"))}
    table = models.pop("audit_table")
    rows = [
        (f"`{column['name']}`", types[column["name"]], one_line(column["description"])) for column in table["columns"]
    ]
    text = _NOTE.format(source="the dbt package audit_trail")
    text += f"# Audit tables and views\n\n## audit_table\n\n{one_line(table['description'])}\n\n"
    text += markdown_table(("column", "type", "meaning"), rows)
    for name, model in models.items():
        rows = [(f"`{column['name']}`", one_line(column["description"])) for column in model["columns"]]
        text += f"\n## {name}\n\n{one_line(model['description'])}\n\n" + markdown_table(("column", "meaning"), rows)
    variables = (DBT_PACKAGE / "dbt_project.yml").read_text()
    commented = re.findall(r"((?:^  # .+\n)+)  (audit_\w+): (.+)$", variables, re.MULTILINE)
    rows = [(f"`{name}`", f"`{value}`", one_line(comment.replace("  # ", " "))) for comment, name, value in commented]
    text += "\n## Variables\n\nSet other values under `vars:` in your project's `dbt_project.yml`.\n\n"
    return text + markdown_table(("variable", "default", "meaning"), rows)


def commands() -> str:
    """Return the page about the Makefile's targets and the release tool's commands."""
    targets = re.findall(r"^([a-z-]+):.*?## (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    makes = [(f"`make {name}`", text) for name, text in targets]
    deploys = []
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        deploys.append((f"`python -m mwaa_release {name}`", one_line(command.callback.__doc__.split("\n\n")[0])))
    return (
        _NOTE.format(source="the Makefile and mwaa_release/cli.py")
        + "# Commands\n\n"
        + markdown_table(("command", "does"), makes)
        + "\n`python` of the release tool is `.local/venvs/tools/bin/python`; each command has `--help`.\n\n"
        + markdown_table(("command", "does"), deploys)
    )


def conventions() -> str:
    """Return the page about the conventions that `make lint` checks."""
    config = Config()
    config.rule_namespaces = [RULES]
    registry = RuleRegistry(config)
    registry.load_all()
    rows = [(f"`{name.rsplit('.', 1)[1]}`", one_line(rule.description)) for name, rule in registry.rules.items()]
    return (
        _NOTE.format(source="workbench/conventions.py")
        + "# Conventions\n\n`make lint` checks them, `git commit` too after `make hooks`. A broken one is reported "
        "with its file and the command to type.\n\n" + markdown_table(("rule", "says"), rows)
    )


def _model(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())["models"][0]


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def write(folder: Path, catalog: str = "# Data products\n") -> None:
    """Write the pages into `folder`.

    Args:
        folder: for the pages.
        catalog: the page about data products. Only `workbench.catalog` reads the dbt projects.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"settings": settings, "audit": audit_columns, "commands": commands, "conventions": conventions}
    for name, page in pages.items():
        (folder / f"{name}.md").write_text(page())
    (folder / "data-products.md").write_text(catalog)


def build_site(catalog: str) -> int:
    """Write the reference pages, build the site, and return zensical's exit code. A broken link is an error."""
    write(PAGES, catalog)
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run([zensical, "build", "--strict", "--clean"], cwd=REPOSITORY, check=False)
    if done.returncode == 0:
        print(f"file://{REPOSITORY / '.local' / 'site' / 'index.html'}")
        # Browsers refuse its script in a file.
        print("Search needs a web server: python3 -m http.server --directory .local/site")
    return done.returncode
