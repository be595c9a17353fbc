"""Mistakes in the use of show, compile and diff: each message names the mistake and the cure."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from mwaa_local.settings import Settings, SetupError
from workbench import commands
from workbench.diff import diff
from workbench.problems import ProjectError
from workbench.project import Project
from workbench.terminal import show_problem
from workbench.warehouse import write_profile

STAGING = "models/staging"
WRONG = "select item, amuont\nfrom {{ ref('stg_sales') }}\n"
# Of the commands that read one model: its files, the model, and the expected lines.
READ = {
    "unknown model": ({}, "itmes", ("there is no model itmes\n  → did you mean items?",)),
    "no model": ({}, "", ("no model is given\n  → name one, for example: M=",)),
    "two models": ({}, "items dear_items", ("matches 2 models: dear_items, items\n  → give the name of one model",)),
    "unknown method": ({}, "tagg:mart", ("tagg: is not a method of dbt's selectors\n  → did you mean tag?",)),
    "disabled model": (
        {f"{STAGING}/off.sql": "{{ config(enabled=false) }}\nselect 1 as one\n"},
        "off",
        ("off is disabled\n  → its config, or its folder in dbt_project.yml, has enabled: false",),
    ),
    "no profile": (
        {"dbt_project.yml": "name: shop\nversion: '1.0'\n"},
        "items",
        ("dbt_project.yml names no profile\n  → add a line to it: profile: ",),
    ),
}
SHOWN = {
    "seed": ({}, "sales", ("sales is a seed, not a model\n", 'make sql Q="select * from dbt_local.sales limit 10"')),
    "unit test": (
        {},
        "items_add_up",
        ("items_add_up is a unit test, not a model\n", "make test-models M=items_add_up"),
    ),
    "broken SQL": (
        {f"{STAGING}/wrong.sql": WRONG},
        "wrong",
        (f'{STAGING}/wrong.sql:1: column "amuont" does not exist\n', "→ did you mean amount?"),
    ),
    "parent with broken SQL": (
        {f"{STAGING}/wrong.sql": WRONG, f"{STAGING}/child.sql": "select * from {{ ref('wrong') }}\n"},
        "child",
        (f'{STAGING}/wrong.sql:1: column "amuont" does not exist\n', "child reads a model that failed\n  → correct"),
    ),
    "no permission": (
        {f"{STAGING}/denied.sql": "select *\nfrom secret.salaries\n"},
        "denied",
        (f"{STAGING}/denied.sql:2: permission denied for schema secret\n", "→ run as a superuser: grant usage on"),
    ),
}


COMMANDS = {
    "show": lambda settings, model, folder: commands.show(settings, model, 5, folder),
    "compile": commands.compile_model,
}


def write(folder: Path, files: Mapping[str, str]) -> None:
    for file, text in files.items():
        (folder / file).write_text(text)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("mistake", READ)
def test_model_that_cannot_be_read(settings: Settings, folder: Path, capsys, command: str, mistake: str):
    files, model, lines = READ[mistake]
    write(folder, files)
    with pytest.raises(ProjectError) as raised:
        COMMANDS[command](settings, model, folder)
    show_problem(raised.value.problem)
    output = capsys.readouterr().out
    for line in lines:
        assert line in output


@pytest.mark.parametrize("mistake", SHOWN)
def test_model_that_cannot_be_shown(settings: Settings, folder: Path, capsys, superuser, mistake: str):
    superuser("create schema if not exists secret", "create table if not exists secret.salaries (salary integer)")
    files, model, lines = SHOWN[mistake]
    write(folder, files)
    with pytest.raises(ProjectError) as raised:
        commands.show(settings, model, 5, folder)
    show_problem(raised.value.problem)
    output = capsys.readouterr().out
    for line in lines:
        assert line in output


def test_model_without_rows_is_shown_as_such(settings: Settings, folder: Path, capsys):
    write(folder, {f"{STAGING}/nothing.sql": "select 1 as one where false\n"})
    assert commands.show(settings, "nothing", 5, folder) == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == ("one\n", "nothing has no rows.\n")


def test_warehouse_that_stopped_is_named(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch):
    compile_model = Project.compile

    def compile_without_warehouse(project: Project, name: str) -> str:
        write_profile(folder, project.state, Settings(settings.state, 1, 1, 2), "local", project.schema)
        return compile_model(project, name)

    monkeypatch.setattr(Project, "compile", compile_without_warehouse)
    with pytest.raises(ProjectError) as raised:
        commands.compile_model(settings, "stg_sales", folder)
    problem = raised.value.problem
    assert problem.message == "the warehouse did not answer"
    assert problem.hint == "if it was stopped, start it again with: make up"


def test_diff_needs_a_table_a_commit_and_a_repository(settings: Settings, folder: Path):
    with pytest.raises(SetupError, match="is not in a git repository, so there is no other commit"):
        diff(settings, "items", "main", folder)
    for arguments in (["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "--quiet", "-m=x"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    with pytest.raises(SetupError, match="git does not know mian; choose a base: BASE=<branch, tag or commit>"):
        diff(settings, "items", "mian", folder)
    write(folder, {f"{STAGING}/part.sql": "{{ config(materialized='ephemeral') }}\nselect 1 as one\n"})
    for model in ("part", "items_add_up"):
        with pytest.raises(ProjectError, match=f"{model} has no rows to compare"):
            diff(settings, model, "main", folder)
