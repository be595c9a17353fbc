"""pipelines.yml: what is wrong in it is said with file, entry and key."""

from pathlib import Path

import pytest
from dbt_pipeline.settings import PipelineError, load_pipelines

ENTRY = """
  - dag_name: {dag_name}
    project_name: flights
    redshift_connection_id: flights_redshift
    target_database: dev
    target_schema: analytics
"""
GOOD = "pipelines:" + ENTRY.format(dag_name="one")


def load(tmp_path: Path, text: str) -> list:
    path = tmp_path / "pipelines.yml"
    path.write_text(text)
    return load_pipelines(path)


def message(tmp_path: Path, text: str) -> str:
    with pytest.raises(PipelineError) as raised:
        load(tmp_path, text)
    assert str(tmp_path / "pipelines.yml") in str(raised.value)
    return str(raised.value)


def test_defaults_hold_where_an_entry_says_nothing_else(tmp_path: Path) -> None:
    defaults = "defaults: {threads: 8, owner: team}\n"
    entries = "pipelines:" + ENTRY.format(dag_name="one") + ENTRY.format(dag_name="two") + "    threads: 2\n"
    one, two = load(tmp_path, defaults + entries)
    assert (one.dag_name, one.threads, one.owner, one.secret_name) == ("one", 8, "team", None)
    assert (two.dag_name, two.threads, two.owner) == ("two", 2, "team")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"pipelines\.yml is missing"):
        load_pipelines(tmp_path / "pipelines.yml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"pipelines: [\xe4]"], ids=["binary", "latin-1"])
def test_a_file_that_is_not_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pipelines.yml").write_bytes(content)
    with pytest.raises(PipelineError, match=r"pipelines\.yml is not valid YAML"):
        load_pipelines(tmp_path / "pipelines.yml")


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "pipelines.yml").mkdir()
    with pytest.raises(PipelineError, match=r"pipelines\.yml cannot be read"):
        load_pipelines(tmp_path / "pipelines.yml")


def test_what_is_not_yaml_is_shown_with_its_line(tmp_path: Path) -> None:
    said = message(tmp_path, "pipelines:\n  - dag_name: [one\n")
    assert "not valid YAML" in said
    assert "line 3" in said


@pytest.mark.parametrize("text", ["", "[]", "pipelines:", "pipelines: []", "pipelines: {}", "defaults: {}", "words"])
def test_a_file_without_a_list_of_pipelines(tmp_path: Path, text: str) -> None:
    assert "must hold a list under the key 'pipelines', with one entry or more" in message(tmp_path, text)


@pytest.mark.parametrize("more", ["default: {threads: 2}\n", "defaults: [threads]\n"])
def test_a_file_with_other_keys(tmp_path: Path, more: str) -> None:
    assert "may hold 'defaults' (a mapping) and 'pipelines' (a list) only" in message(tmp_path, more + GOOD)


@pytest.mark.parametrize("entry", ["- words", "- [1, 2]", "- 7", "-"])
def test_an_entry_that_is_no_mapping(tmp_path: Path, entry: str) -> None:
    said = message(tmp_path, f"{GOOD}  {entry}\n")
    assert "pipeline number 2 must be a mapping of settings" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("project: flights", ("project: there is no such setting", "project_name")),
        ("threads: many", ("threads", "valid integer", "'many'")),
        ("threads: 0", ("threads", "greater than or equal to 1", "found 0")),
        ("retries: 99", ("retries", "less than or equal to 10")),
        ("start_date: tomorrow", ("start_date", "valid date", "'tomorrow'")),
        ("schedule: 'every day'", ("schedule", "cron", "'every day'")),
        ("schedule: 6", ("schedule", "valid string")),
        ("tags: flights", ("tags", "valid tuple")),
        ("secret_name: ''", ("secret_name", "at least 1 character")),
        ("target_schema: 'a; drop schema b'", ("target_schema", "match pattern", "'a; drop schema b'")),
        ("target_database:", ("target_database", "valid string", "None")),
        ("project_name: ../other", ("project_name", "match pattern")),
        ("7: seven", ("7: Keys should be strings",)),
    ],
)
def test_a_wrong_setting_is_named_with_its_entry_and_value(tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    key = line.split(":")[0]
    kept = "".join(f"{row}\n" for row in GOOD.splitlines() if not row.strip().startswith(f"{key}:"))
    said = message(tmp_path, f"{kept}    {line}\n")
    assert "pipeline one" in said
    for word in words:
        assert word in said


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    said = message(tmp_path, GOOD.replace("    project_name: flights\n", ""))
    assert "pipeline one: project_name: Field required" in said


def test_an_entry_without_a_name_is_numbered(tmp_path: Path) -> None:
    said = message(tmp_path, GOOD.replace("dag_name: one", "threads: 1"))
    assert "pipeline number 1: dag_name: Field required" in said


def test_two_pipelines_of_one_name(tmp_path: Path) -> None:
    entries = ENTRY.format(dag_name="one") + ENTRY.format(dag_name="two") + ENTRY.format(dag_name="one")
    assert "dag_name must be unique; one stands there more than once" in message(tmp_path, f"pipelines:{entries}")
