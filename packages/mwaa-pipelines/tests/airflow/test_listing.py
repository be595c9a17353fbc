"""pipelines.yml: what is wrong in it is said with file, entry and key, and spoils no other entry."""

from pathlib import Path

import pytest
import yaml
from conftest import entries, write

from mwaa_pipelines.config_file import read_pipelines
from mwaa_pipelines.settings import Pipeline, PipelineError

GOOD = entries("one")


def load(tmp_path: Path, text: str, only: str | None = None) -> list[Pipeline]:
    listing = read_pipelines(write(tmp_path, text), only)
    assert listing.problems == []
    return [pipeline for pipeline, _ in listing.pipelines]


def message(tmp_path: Path, text: str) -> str:
    """Why the file as a whole is of no use."""
    with pytest.raises(PipelineError) as raised:
        load(tmp_path, text)
    assert str(tmp_path / "pipelines.yml") in str(raised.value)
    return str(raised.value)


def problems(tmp_path: Path, text: str, good: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with entries, where those named `good` can be made."""
    path = write(tmp_path, text)
    listing = read_pipelines(path)
    assert tuple(pipeline.dag_name for pipeline, _ in listing.pipelines) == good
    assert listing.problems
    return [problem.removeprefix(f"{path}: ") for problem in listing.problems]


def test_defaults_hold_where_an_entry_says_nothing_else(tmp_path: Path) -> None:
    defaults = "defaults: {threads: 8, owner: team}\n"
    one, two = load(tmp_path, defaults + entries("one", "two", two="threads: 2"))
    assert (one.dag_name, one.threads, one.owner, one.secret_name) == ("one", 8, "team", None)
    assert (two.dag_name, two.threads, two.owner) == ("two", 2, "team")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"pipelines\.yml is missing"):
        read_pipelines(tmp_path / "pipelines.yml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"pipelines: [\xe4]"], ids=["binary", "latin-1"])
def test_a_file_that_is_not_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pipelines.yml").write_bytes(content)
    with pytest.raises(PipelineError, match=r"pipelines\.yml is not valid YAML"):
        read_pipelines(tmp_path / "pipelines.yml")


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "pipelines.yml").mkdir()
    with pytest.raises(PipelineError, match=r"pipelines\.yml cannot be read"):
        read_pipelines(tmp_path / "pipelines.yml")


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
    (said,) = problems(tmp_path, f"{GOOD}  {entry}\n", good=("one",))
    assert said.startswith("pipeline number 2: must be a mapping of settings")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("project: flights", ("project: there is no such setting", "project_name")),
        ("threads: many", ("threads", "valid integer", "'many'")),
        ("threads: 0", ("threads", "greater than or equal to 1", "found 0")),
        ("retries: 99", ("retries", "less than or equal to 10")),
        ("start_date: tomorrow", ("start_date", "valid date", "'tomorrow'")),
        ("schedule: 'every day'", ("schedule", "cron", "'every day'")),
        ("schedule: 6", ("schedule", "must be a cron expression, a list of assets, or null", "found 6")),
        ("schedule: []", ("schedule", "at least 1 item")),
        ("schedule: [a b]", ("schedule.0", "match pattern", "'a b'")),
        ("timezone: Europe/Bonn", ("timezone", "IANA", "'Europe/Bonn'")),
        ("timezone: ../etc", ("timezone", "IANA")),
        ("catchup: perhaps", ("catchup", "valid boolean", "'perhaps'")),
        ("select: tag:mart", ("select", "valid tuple", "'tag:mart'")),
        ("select: ['tag:a --full-refresh']", ("select.0", "match pattern")),
        ("exclude: ['-f']", ("exclude.0", "match pattern")),
        ("exclude: ['state:modified']", ("exclude.0", "match pattern")),
        ("vars: [a]", ("vars", "valid dictionary")),
        ("vars: {a b: 1}", ("vars.a b", "match pattern")),
        ("execution_mode: kubernetes", ("execution_mode", "'watcher' or 'local'", "'kubernetes'")),
        ("test_behavior: build", ("test_behavior: build needs execution_mode: local",)),
        ("task_timeout_minutes: 0", ("task_timeout_minutes", "greater than or equal to 1")),
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
    said = problems(tmp_path, f"{kept}    {line}\n")
    assert all(text.startswith("pipeline one: ") for text in said)
    for word in words:
        assert word in "".join(said)


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    said = problems(tmp_path, GOOD.replace("    project_name: flights\n", ""))
    assert said == ["pipeline one: project_name: Field required"]


def test_an_entry_without_a_name_is_numbered(tmp_path: Path) -> None:
    said = problems(tmp_path, GOOD.replace("dag_name: one", "threads: 1"))
    assert said == ["pipeline number 1: dag_name: Field required"]


def test_a_default_that_is_no_setting_is_said_once(tmp_path: Path) -> None:
    said = message(tmp_path, "defaults: {thread: 8}\n" + entries("one", "two"))
    assert "defaults: there is no setting thread; there are dag_name, " in said


def test_two_pipelines_of_one_name_are_both_refused(tmp_path: Path) -> None:
    said = problems(tmp_path, entries("one", "two", "one").replace("redshift_one", "redshift_3", 1), good=("two",))
    assert said == ["pipeline one: dag_name must be unique; this one stands there more than once"]


def test_names_that_are_no_names_are_told_apart_from_the_others(tmp_path: Path) -> None:
    text = (
        entries("one", "two", "three")
        .replace("dag_name: one", "dag_name: [a]")
        .replace("dag_name: two", "dag_name: [a]")
    )
    said = problems(tmp_path, text, good=("three",))
    assert said == ["pipeline ['a']: dag_name: Input should be a valid string (found ['a'])"]


@pytest.mark.parametrize("setting", ["redshift_connection_id", "secret_name"])
def test_what_is_anothers_is_refused_naming_both(tmp_path: Path, setting: str) -> None:
    content = yaml.safe_load(entries("one", "two", "three"))
    for entry in content["pipelines"][:2]:
        entry[setting] = "somebodys"
    text = yaml.safe_dump(content)
    said = problems(tmp_path, text, good=("one", "three"))
    assert said == [f"pipeline two: {setting}: 'somebodys' is that of the pipeline one; give each its own"]


def test_without_secrets_there_is_none_to_share(tmp_path: Path) -> None:
    assert len(load(tmp_path, entries("one", "two"))) == 2


def test_pipelines_that_wait_for_each_other_are_refused(tmp_path: Path) -> None:
    waits = {"one": "schedule: [three]", "two": "schedule: [one]", "three": "schedule: [elsewhere, two]"}
    said = problems(tmp_path, entries("one", "two", "three", "four", **waits, four="schedule: [two]"), good=("four",))
    assert said[0] == ("pipeline one: schedule: is a cycle of assets: one waits for three waits for two waits for one")
    assert len(said) == 3


def test_a_pipeline_that_waits_for_itself_is_refused(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, entries("one", one="schedule: [one]"))
    assert "one waits for one" in said


def test_a_project_that_is_not_there_spoils_its_own_pipeline_only(tmp_path: Path) -> None:
    text = entries("one", "two").replace("project_name: flights", "project_name: trains", 1)
    (said,) = problems(tmp_path, text, good=("two",))
    assert said.startswith("pipeline one: the dbt project 'trains' has no release in ")


def test_a_task_asks_for_its_own_pipeline(tmp_path: Path) -> None:
    assert [pipeline.dag_name for pipeline in load(tmp_path, entries("one", "two"), only="two")] == ["two"]
