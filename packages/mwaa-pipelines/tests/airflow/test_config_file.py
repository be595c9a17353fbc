"""Errors in pipelines.yml name the file, the entry and the setting, and do not affect other entries."""

import re
from datetime import date
from pathlib import Path

import pytest
import yaml
from conftest import entries, write

from mwaa_pipelines.config_file import load_pipelines, read_pipelines, read_pipelines_everywhere
from mwaa_pipelines.serverless_settings import Serverless
from mwaa_pipelines.settings import Pipeline, PipelineError

GOOD = entries("one")


def load(tmp_path: Path, text: str, dag_id: str | None = None) -> list[Pipeline]:
    loaded = load_pipelines(write(tmp_path, text), dag_id)
    assert loaded.problems == []
    return [pipeline for pipeline, *_ in loaded.pipelines]


def message(tmp_path: Path, text: str) -> str:
    """Return the error that makes the whole file unusable."""
    with pytest.raises(PipelineError) as raised:
        load(tmp_path, text)
    assert str(tmp_path / "pipelines.yml") in str(raised.value)
    return str(raised.value)


def problems(tmp_path: Path, text: str, good: tuple[str, ...] = ()) -> list[str]:
    """Return the problems of a file in which only the pipelines `good` can be created."""
    path = write(tmp_path, text)
    loaded = load_pipelines(path)
    assert tuple(pipeline.dag_name for pipeline, *_ in loaded.pipelines) == good
    assert loaded.problems
    return [re.sub(rf"^{re.escape(str(path))}(:\d+)?: ", "", problem) for problem in loaded.problems]


def line_of_problem(path: Path, text: str) -> str:
    """Return the line that the only problem of a file names, without indentation."""
    (problem,) = read_pipelines(write(path, text), environment="dev").problems
    return text.splitlines()[int(problem.removeprefix(f"{path / 'pipelines.yml'}:").split(":")[0]) - 1].strip()


def test_entries_override_defaults(tmp_path: Path) -> None:
    defaults = "defaults: {threads: 8, owner: team}\n"
    one, two = load(tmp_path, defaults + entries("one", "two", two="threads: 2"))
    assert (one.dag_name, one.threads, one.owner, one.secret_name) == ("one", 8, "team", None)
    assert (two.dag_name, two.threads, two.owner) == ("two", 2, "team")


def test_settings_have_their_documented_defaults(tmp_path: Path) -> None:
    (pipeline,) = load(tmp_path, GOOD)
    defaults = {name: value for name, value in pipeline if value != yaml.safe_load(GOOD)["pipelines"][0].get(name)}
    assert defaults == {
        "timezone": "UTC",
        "start_date": date(2026, 1, 1),
        "catchup": False,
        "owner": "airflow",
        "tags": (),
        "links": {},
        "select": (),
        "exclude": (),
        "vars": {},
        "env": {},
        "secret_env": {},
        "load": (),
        "copy_role": "default",
        "source_freshness": "ignore",
        "threads": 4,
        "execution_mode": "watcher",
        "serverless": Serverless(tasks="one"),
        "test_behavior": "after_each",
        "warnings": "ignore",
        "retries": 1,
        "retry_delay_seconds": 30,
        "overdue_minutes": 120,
    }


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"pipelines\.yml is missing"):
        read_pipelines(tmp_path / "pipelines.yml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"pipelines: [\xe4]"], ids=["binary", "latin-1"])
def test_file_that_is_not_utf8_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pipelines.yml").write_bytes(content)
    with pytest.raises(PipelineError, match=r"pipelines\.yml is not valid YAML"):
        read_pipelines(tmp_path / "pipelines.yml")


def test_directory_instead_of_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pipelines.yml").mkdir()
    with pytest.raises(PipelineError, match=r"pipelines\.yml cannot be read"):
        read_pipelines(tmp_path / "pipelines.yml")


def test_yaml_error_names_the_line(tmp_path: Path) -> None:
    messages = message(tmp_path, "pipelines:\n  - dag_name: [one\n")
    assert "not valid YAML" in messages
    assert "line 3" in messages


@pytest.mark.parametrize("text", ["", "[]", "pipelines:", "pipelines: []", "pipelines: {}", "defaults: {}", "words"])
def test_file_without_list_of_pipelines_is_an_error(tmp_path: Path, text: str) -> None:
    assert "must contain a list under the key 'pipelines', with at least one entry" in message(tmp_path, text)


@pytest.mark.parametrize("more", ["default: {threads: 2}\n", "defaults: [threads]\n"])
def test_unknown_top_level_key_is_an_error(tmp_path: Path, more: str) -> None:
    assert "can contain only 'defaults' (a mapping) and 'pipelines' (a list)" in message(tmp_path, more + GOOD)


@pytest.mark.parametrize("entry", ["- words", "- [1, 2]", "- 7", "-"])
def test_entry_must_be_a_mapping(tmp_path: Path, entry: str) -> None:
    (messages,) = problems(tmp_path, f"{GOOD}  {entry}\n", good=("one",))
    assert messages.startswith("pipeline number 2: must be a mapping of settings")


def tables(*changes: str) -> str:
    """The setting load with tables that have these settings instead of valid ones."""
    entries_of_load = []
    for number, change in enumerate(changes):
        changed = {part.split(":")[0].strip() for part in change.split(", ")}
        valid = {"table": f"shop.t{number}", "prefix": f"t{number}/", "format": "csv"}
        rest = [f"{name}: {value}" for name, value in valid.items() if name not in changed]
        entries_of_load.append(f"{{{', '.join([change, *rest])}}}")
    return f"load: [{', '.join(entries_of_load)}]"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("project: flights", ("project: unknown setting", "project_name")),
        ("thread: 1", ("thread: unknown setting. Did you mean 'threads'?",)),
        ("threads: many", ("threads", "valid integer", "'many'")),
        ("threads: 0", ("threads", "greater than or equal to 1", "value: 0")),
        ("retries: 99", ("retries", "less than or equal to 10")),
        ("start_date: tomorrow", ("start_date", "valid date", "'tomorrow'")),
        ("schedule: 'every day'", ("schedule", "cron", "'every day'")),
        ("schedule: 6", ("schedule", "must be a cron expression, a list of assets, or null", "value: 6")),
        ("schedule: []", ("schedule", "at least 1 item")),
        ("schedule: [a b]", ("schedule.0", "match pattern", "'a b'")),
        ("timezone: Europe/Bonn", ("timezone", "IANA", "'Europe/Bonn'")),
        ("timezone: ../etc", ("timezone", "IANA")),
        ("catchup: perhaps", ("catchup", "valid boolean", "'perhaps'")),
        ("select: tag:mart", ("select", "valid tuple", "'tag:mart'")),
        ("select: ['tag:a --full-refresh']", ("select.0", "match pattern")),
        ("select: ['{{ macro }}']", ("select.0", "match pattern")),
        ("selector: nightly\n    select: [departures]", ("selector cannot be combined with select or exclude",)),
        (
            "selector: nightly\n    execution_mode: local\n    test_behavior: build",
            ("selector cannot be combined with test_behavior: build",),
        ),
        ("exclude: ['-f']", ("exclude.0", "match pattern")),
        ("exclude: ['']", ("exclude.0", "match pattern")),
        ("env: {DBT_ENV_SECRET_KEY: x}", ("env: DBT_ENV_SECRET_KEY is a secret by its name",)),
        ("env: {KEY: x}\n    secret_env: {KEY: shop/key}", ("secret_env: KEY is also in env",)),
        ("env: {A-B: x}", ("env.A-B", "match pattern")),
        ("env: {A: 1}", ("env.A", "valid string")),
        ("load: orders", ("load", "valid tuple", "'orders'")),
        (tables("table: orders"), ("load.0.table: must be a schema and a table in lower case", "'orders'")),
        (tables("table: Landing.Orders"), ("load.0.table: must be",)),
        (tables("prefix: shop"), ("load.0.prefix: must be the beginning of keys, and end with a slash", "'shop'")),
        (tables("prefix: /shop/"), ("load.0.prefix: must be",)),
        (tables("prefix: ''"), ("load.0.prefix: must be",)),
        (tables("bucket: s3://shop"), ("load.0.bucket: must be the name of a bucket, without s3://", "'s3://shop'")),
        (tables("format: jsn"), ("load.0.format", "'jsn'", "Did you mean 'json'?")),
        (tables("prefixes: a/"), ("load.0.prefixes: unknown setting. Did you mean 'prefix'?",)),
        (tables("new_columns: ad"), ("load.0.new_columns", "Did you mean 'add'?")),
        (tables("delimiter: '||'"), ("load.0.delimiter: must be one ASCII character",)),
        (tables("format: json, null_as: NA"), ("load.0: null_as needs format: csv. Remove it",)),
        (tables("format: parquet, new_columns: add"), ("load.0: new_columns: add needs format: csv or json",)),
        (tables("table: shop.orders", "table: shop.orders"), ("load: shop.orders has 2 entries. Keep one of them",)),
        (
            tables("table: shop.all, prefix: shop/", "table: shop.one, prefix: shop/one/"),
            ("load: the files of shop.one (shop/one/) would be loaded into shop.all, too (shop/). Change one prefix",),
        ),
        ("copy_role: copy", ("copy_role: must be default, or one or more ARNs of IAM roles", "'copy'")),
        ("copy_role: 'arn:aws:iam::1:role/x'", ("copy_role: must be",)),
        ("links: {Report: 'javascript:alert(1)'}", ("links.Report: must be a web address",)),
        ("vars: [a]", ("vars", "valid dictionary")),
        ("vars: {a b: 1}", ("vars.a b", "match pattern")),
        ("execution_mode: kubernetes", ("execution_mode", "'watcher', 'local', 'ecs' or 'serverless'", "'kubernetes'")),
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
def test_invalid_setting_is_named_with_entry_and_value(tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    key = line.split(":")[0]
    remaining_rows = "".join(f"{row}\n" for row in GOOD.splitlines() if not row.strip().startswith(f"{key}:"))
    messages = problems(tmp_path, f"{remaining_rows}    {line}\n")
    assert all(text.startswith("pipeline one: ") for text in messages)
    for word in words:
        assert word in "".join(messages)


def test_missing_setting_is_named(tmp_path: Path) -> None:
    messages = problems(tmp_path, GOOD.replace("    project_name: flights\n", ""))
    assert messages == ["pipeline one: project_name: Field required"]


DEFAULTS = "defaults:\n  environments:\n    dev: {threads: 0}\n  retries: 99\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD.replace("    target_schema: analytics\n", ""), "- dag_name: one"),
        (entries("one", "two").replace("    project_name: flights\n", "", 1), "- dag_name: one"),
        (entries("one", "two", two="threads: many"), "threads: many"),
        (
            entries(
                "one", one="load:\n      - {table: a.b, prefix: b/, format: csv}\n      - {table: a.c, prefix: c/}"
            ),
            "- {table: a.c, prefix: c/}",
        ),
        (entries("one", one="env:\n      KEY: a\n      A: 1"), "A: 1"),
        (entries("one", one="select: [x]\n    selector: nightly"), "selector: nightly"),
        (DEFAULTS.replace("99", "1") + GOOD, "dev: {threads: 0}"),
        (DEFAULTS.replace("0", "1") + GOOD, "retries: 99"),
        (entries("one", one="environments:\n      dev:\n        threads: 0"), "threads: 0"),
        (entries("one", "two", "one"), "- dag_name: one"),
        (entries("one", one="schedule: [one]"), "schedule: [one]"),
        (f"{GOOD}  - words\n", "- words"),
    ],
)
def test_problem_has_the_line_of_the_setting(tmp_path: Path, text: str, line: str) -> None:
    assert line_of_problem(tmp_path, text) == line


def test_each_problem_of_an_entry_has_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "pipelines:\n  - dag_name: one\n    project_name: a\n    threads: 0\n    retries: 99\n")
    places = [problem.split(": pipeline one: ") for problem in read_pipelines(path).problems]
    lines = {text.split(":")[0]: place for place, text in places}
    assert (lines["threads"], lines["retries"]) == (f"{path}:4", f"{path}:5")
    assert lines["target_schema"] == f"{path}:2"


def test_entry_without_dag_name_is_numbered(tmp_path: Path) -> None:
    messages = problems(tmp_path, GOOD.replace("dag_name: one", "threads: 1"))
    assert messages == ["pipeline number 1: dag_name: Field required"]


def test_unknown_default_is_reported_once(tmp_path: Path) -> None:
    messages = message(tmp_path, "defaults: {thread: 8}\n" + entries("one", "two"))
    assert "defaults: thread: unknown setting. Did you mean 'threads'?" in messages


def test_first_of_two_entries_with_the_same_dag_name_is_used(tmp_path: Path) -> None:
    text = entries("one", "two", "one").replace("redshift_one", "redshift_first", 1)
    messages = problems(tmp_path, text, good=("one", "two"))
    assert messages == [
        "pipeline one: dag_name must be unique; another entry uses it already. Only the first one is used"
    ]
    first, *_ = load_pipelines(tmp_path / "pipelines.yml").pipelines[0]
    assert first.redshift_connection_id == "redshift_first"


def test_empty_defaults_are_valid(tmp_path: Path) -> None:
    (pipeline,) = load(tmp_path, "defaults:\n" + GOOD)
    assert pipeline.dag_name == "one"


def test_dag_name_must_be_a_string(tmp_path: Path) -> None:
    text = (
        entries("one", "two", "three")
        .replace("dag_name: one", "dag_name: [a]")
        .replace("dag_name: two", "dag_name: [a]")
    )
    messages = problems(tmp_path, text, good=("three",))
    assert messages == ["pipeline ['a']: dag_name: Input should be a valid string (value: ['a'])"] * 2


@pytest.mark.parametrize("setting", ["redshift_connection_id", "secret_name"])
def test_pipelines_cannot_share_credentials(tmp_path: Path, setting: str) -> None:
    content = yaml.safe_load(entries("one", "two", "three"))
    for entry in content["pipelines"][:2]:
        entry |= {setting: "somebodys", "target_schema": entry["dag_name"]}
    text = yaml.safe_dump(content)
    messages = problems(tmp_path, text, good=("one", "three"))
    different = {"redshift_connection_id": "target_schema differs"}.get(
        setting, "target_schema, redshift_connection_id differ"
    )
    assert messages == [
        f"pipeline two: {setting}: 'somebodys' is already used by pipeline one. Pipelines can share it if they share "
        f"the dbt project, database, schema and login, but {different}"
    ]


def test_pipelines_of_one_schema_share_credentials_and_take_turns(tmp_path: Path) -> None:
    content = yaml.safe_load(entries("one", "two", "three"))
    for entry in content["pipelines"][::2]:
        entry |= {"redshift_connection_id": "shared", "secret_name": "shared/dbt_user"}
    pipelines = load(tmp_path, yaml.safe_dump(content))
    assert [pipeline.turns for pipeline in pipelines] == [("one", "three"), (), ("one", "three")]


@pytest.mark.parametrize("setting", ["project_name", "target_database", "target_schema", "secret_name"])
def test_pipelines_of_another_schema_or_login_cannot_share(tmp_path: Path, setting: str) -> None:
    content = yaml.safe_load(entries("one", "two"))
    for entry in content["pipelines"]:
        entry |= {"redshift_connection_id": "shared", "secret_name": "shared/dbt_user"}
    content["pipelines"][1][setting] = "another"
    (message,) = problems(tmp_path, yaml.safe_dump(content), good=("one",))
    assert message.startswith("pipeline two: ")
    assert message.endswith(f"share the dbt project, database, schema and login, but {setting} differs")


def test_login_of_another_pipeline_is_not_a_variable(tmp_path: Path) -> None:
    lines = {"one": "secret_name: one/dbt_user", "two": "secret_env: {KEY: one/dbt_user}"}
    messages = problems(tmp_path, entries("one", "two", **lines), good=("one",))
    assert messages == ["pipeline two: secret_env.KEY: 'one/dbt_user' is the login of pipeline one"]


def test_pipelines_without_secret_are_valid(tmp_path: Path) -> None:
    assert len(load(tmp_path, entries("one", "two"))) == 2


def test_cycle_of_schedules_is_rejected(tmp_path: Path) -> None:
    waits = {"one": "schedule: [three]", "two": "schedule: [one]", "three": "schedule: ['external:elsewhere', two]"}
    messages = problems(
        tmp_path, entries("one", "two", "three", "four", **waits, four="schedule: [two]"), good=("four",)
    )
    assert messages[0] == (
        "pipeline one: schedule: the assets form a cycle: one waits for three waits for two waits for one"
    )
    assert len(messages) == 3


def test_asset_that_nothing_updates_is_rejected(tmp_path: Path) -> None:
    text = entries("one", "two", "three", two="schedule: [onne]", three="schedule: [one, four]")
    messages = problems(tmp_path, text, good=("one",))
    advice = "is not a pipeline of this file. For an asset of other DAGs, write external:"
    assert messages == [
        f"pipeline two: schedule: 'onne' {advice}onne. Did you mean 'one'?",
        f"pipeline three: schedule: 'four' {advice}four",
    ]


def test_pipeline_can_wait_for_a_public_model(tmp_path: Path) -> None:
    waits = {"two": "schedule: [flights.daily_performance]"}
    _, two = load(tmp_path, entries("one", "two", **waits))
    assert two.assets == ("flights.daily_performance",)


def test_model_that_is_not_public_is_a_problem_and_the_pipeline_waits(tmp_path: Path) -> None:
    waits = {"two": "schedule: [flights.daily_performanse, flights.departures]"}
    messages = problems(tmp_path, entries("one", "two", **waits), good=("one", "two"))
    advice = "is not a public model that a pipeline of the dbt project 'flights' builds. Set `access: public` in the "
    assert messages == [
        f"pipeline two: schedule: 'flights.daily_performanse' {advice}config of the model. "
        "Did you mean 'flights.daily_performance'?",
        f"pipeline two: schedule: 'flights.departures' {advice}config of the model",
    ]


def test_unknown_project_of_a_model_is_rejected(tmp_path: Path) -> None:
    text = entries("one", "two", two="schedule: [flight.daily_performance]")
    (message,) = problems(tmp_path, text, good=("one",))
    assert message.endswith("write external:flight.daily_performance. Did you mean 'flights'?")


def test_cycle_through_a_public_model_is_rejected(tmp_path: Path) -> None:
    waits = {"one": "schedule: [trains.delays]", "two": "schedule: [one]"}
    text = entries("one", "two", **waits)
    text = "project_name: trains".join(text.rsplit("project_name: flights", 1))
    messages = problems(tmp_path, text)
    assert messages == [
        "pipeline one: schedule: the assets form a cycle: one waits for two waits for one",
        "pipeline two: schedule: the assets form a cycle: two waits for one waits for two",
    ]


def test_invalid_pipeline_can_be_waited_for(tmp_path: Path) -> None:
    text = entries("one", "two", one="threads: 0", two="schedule: [one]")
    assert len(problems(tmp_path, text, good=("two",))) == 1


def test_pipeline_cannot_wait_for_itself(tmp_path: Path) -> None:
    (messages,) = problems(tmp_path, entries("one", one="schedule: [one]"))
    assert "one waits for one" in messages


def test_missing_project_affects_only_its_own_pipeline(tmp_path: Path) -> None:
    text = entries("one", "two").replace("project_name: flights", "project_name: trains", 1)
    (messages,) = problems(tmp_path, text, good=("two",))
    assert messages.startswith("pipeline one: the dbt project 'trains' has no release in ")


def test_only_the_requested_pipeline_is_loaded(tmp_path: Path) -> None:
    assert [pipeline.dag_name for pipeline in load(tmp_path, entries("one", "two"), dag_id="two")] == ["two"]


# --- environments -------------------------------------------------------------------------------------------------

ENVIRONMENTS = """defaults:
  threads: 8
  environments: {dev: {schedule: null, retries: 0}, prod: {}}
""" + entries(
    "one", "two", one="schedule: '@daily'\n    environments: {dev: {target_schema: one_dev}, prod: {retries: 3}}"
)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [("dev", ("one_dev", None, 0, 8)), ("prod", ("analytics", "@daily", 3, 8))],
)
def test_environment_overrides_the_common_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, expected: tuple[object, ...]
) -> None:
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", environment)
    one, two = load(tmp_path, ENVIRONMENTS)
    assert (one.target_schema, one.schedule, one.retries, one.threads) == expected
    assert (two.target_schema, two.schedule) == ("analytics", None)
    assert (one.environment, two.environment) == (environment, environment)


def test_tables_to_load_can_differ_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", "dev")
    of_dev = tables("table: shop.orders, bucket: dev-landing")
    (pipeline,) = load(
        tmp_path, entries("one", one=f"{tables('new_columns: add')}\n    environments: {{dev: {{{of_dev}}}}}")
    )
    assert [(table.table, table.bucket, table.new_columns) for table in pipeline.load] == [
        ("shop.orders", "dev-landing", "fail")
    ]


def test_environment_does_not_matter_for_pipelines_without_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", "prod")
    (pipeline,) = load(tmp_path, GOOD)
    assert pipeline.environment is None


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ("prdo", "is 'prdo', which is not one of dev, prod. Did you mean 'prod'?"),
        ("", "is not set. Set it to one of dev, prod"),
    ],
)
def test_unknown_environment_is_an_error_that_names_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, reason: str
) -> None:
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", environment)
    text = entries("one", "two", two="environments: {dev: {}, prod: {}}")
    assert problems(tmp_path, text, good=("one",)) == [
        "pipeline two: environments: Airflow's option dbt.environment (PipelinesEnvironment of infra/environment.yml) "
        + reason
    ]


@pytest.mark.parametrize(
    ("environments", "reason"),
    [
        ("[dev]", "environments: must be a mapping of names"),
        ("{}", "environments: must be a mapping of names"),
        ("{dev: {}, ../prod: {}}", "environments: must be a mapping of names"),
        ("{dev: daily}", "environments.dev: must be a mapping of settings, not 'daily'"),
        ("{dev: {dag_name: other}}", "environments.dev.dag_name: must be the same in every environment"),
        ("{dev: {thread: 2}}", "thread: unknown setting. Did you mean 'threads'?"),
    ],
)
def test_wrong_settings_of_environments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environments: str, reason: str
) -> None:
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", "dev")
    (problem,) = problems(tmp_path, entries("one", "two", two=f"environments: {environments}"), good=("one",))
    assert problem.startswith(f"pipeline two: {reason}")


def test_every_environment_is_validated_where_people_work(tmp_path: Path) -> None:
    wrong = entries("one", one="retries: 99\n    environments: {dev: {threads: 0}, prod: {retries: 1}}")
    path = write(tmp_path, wrong + entries("two").removeprefix("pipelines:"))
    file = read_pipelines_everywhere(path)
    assert [(pipeline.dag_name, pipeline.environment) for pipeline in file.pipelines] == [
        ("two", None),
        ("one", "prod"),
        ("two", None),
    ]
    of_retries, of_threads = sorted(file.problems)
    assert of_retries.startswith(f"{path}:7: pipeline one: retries: ")
    assert of_retries.endswith("(value: 99) (environment dev)")
    assert of_threads.startswith(f"{path}:8: pipeline one: threads: ")
    both = path.read_text().replace("prod: {retries: 1}", "prod: {threads: 0}")
    path.write_text(both)
    of_retries, of_threads = sorted(read_pipelines_everywhere(path).problems)
    assert of_retries.endswith("(value: 99)")
    assert of_threads.endswith("(value: 0)")
