"""Failures on a real scheduler: the run fails, and the task log, dbt_check and the alert give the reason."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from mwaa_local.aws import seed
from mwaa_local.mwaa.api import import_error
from mwaa_local.query import statement
from mwaa_local.settings import HOST
from mwaa_local.testing.scene import ALERT, AUDIT, CHECK, DAG, ENDED, PRODUCER, Scene, running, wait

# Time for the stand-ins and several runs on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODELS = {
    "ratio.sql": "{{ config(materialized='table') }} select 1 / divisor as id from {{ source('landing', 'settings') }}",
    "properties.yml": """
sources:
  - name: landing
    tables:
      - name: settings
        config: {loaded_at_field: loaded_at, freshness: {error_after: {count: 1, period: day}}}
""",
}
FRESHNESS = "transform_data.source_freshness"


class Measured(Scene):
    """A scene whose pipeline measures its source, which is stale."""

    settings_of_pipeline = "schedule: null\n    source_freshness: measure"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("failures"), MODELS, {}, Measured) as scene:
        settings = "select 1 as divisor, cast('2013-01-01' as timestamp) as loaded_at"
        scene.query(f"create table landing.settings as {settings}", "awsuser")
        yield scene


# --- before dbt starts --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def secret(scene: Scene, name: str, text: str | None) -> Iterator[None]:
    """Replace the text of a secret, or delete the secret if `text` is None."""
    manager = seed.client(scene.settings, "secretsmanager")
    if text is None:
        manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    else:
        manager.put_secret_value(SecretId=name, SecretString=text)
    try:
        yield
    finally:
        seed.seed(scene.settings, scene.passwords, HOST, scene.settings.warehouse_port)


def login(**keys: str) -> Callable[[Scene], AbstractContextManager[None]]:
    return lambda scene: secret(scene, seed.dbt_secret(), json.dumps(keys))


def no_secret(scene: Scene) -> AbstractContextManager[None]:
    return secret(scene, seed.dbt_secret(), None)


def malformed_secret(scene: Scene) -> AbstractContextManager[None]:
    return secret(scene, seed.dbt_secret(), "dbt_user/Pa55word")


def no_host(scene: Scene) -> AbstractContextManager[None]:
    return secret(scene, seed.connection_secret(), json.dumps({"conn_type": "redshift", "schema": "dev"}))


@contextlib.contextmanager
def unreadable_secret(scene: Scene) -> Iterator[None]:
    """The execution role can read only another secret."""
    seed.let_tasks_read(scene.settings, "other/dbt_user")
    try:
        yield
    finally:
        seed.let_tasks_read(scene.settings, seed.dbt_secret())


@contextlib.contextmanager
def no_dbt(scene: Scene) -> Iterator[None]:
    """Make startup.sh fail, as on a container with a read-only disk."""
    pins = scene.settings.state / "mwaa" / "dbt_venv.requirements.txt"
    pins.unlink()
    pins.mkdir()
    scene.source_startup()
    try:
        yield
    finally:
        pins.rmdir()
        scene.source_startup()


@contextlib.contextmanager
def no_warehouse(scene: Scene) -> Iterator[None]:
    scene.stop_warehouse()
    try:
        yield
    finally:
        scene.start_warehouse()


CASES = {
    "wrong password": (
        login(username="dbt_user", password="Wrong-Pa55"),
        "password authentication failed for user",
    ),
    "secret lacks a key": (
        login(username="dbt_user"),
        'the secret \'flights/dbt_user\' (setting secret_name) must be JSON: {"username": "...", "password": "..."}',
    ),
    "secret is gone": (
        no_secret,
        "the secret 'flights/dbt_user' (setting secret_name) cannot be read from Secrets Manager: ",
    ),
    "secret cannot be read": (
        unreadable_secret,
        "environment-ExecutionRole/AmazonMWAA-airflow is not authorized to perform: secretsmanager:GetSecretValue on "
        "resource: arn:aws:secretsmanager:us-east-1:123456789012:secret:flights/dbt_user-",
    ),
    "secret is not JSON": (malformed_secret, "the secret 'flights/dbt_user' (setting secret_name) must be JSON"),
    "connection without host": (no_host, "the Airflow connection 'flights_redshift' has no host"),
    "startup.sh failed": (no_dbt, "startup.sh: FAILED, dbt tasks on this container will fail"),
    "Redshift is down": (no_warehouse, "Connection refused"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_before_dbt_starts_are_in_log_check_and_alert(scene: Scene, case: str) -> None:
    break_login, words = CASES[case]
    scene.alerts()
    with break_login(scene):
        run_id = scene.client.trigger(DAG)
        assert scene.ended(run_id) == "failed"
    states = scene.states(run_id)
    assert set(states.values()) <= ENDED
    assert (states[AUDIT], states[PRODUCER], states[CHECK], states[ALERT]) == (
        "failed",
        "upstream_failed",
        "failed",
        "success",
    )
    (alert,) = scene.alerts()
    # The runs of earlier tests failed too.
    assert re.fullmatch(rf"FAILED( AGAIN)? {DAG}: {AUDIT}", alert["subject"])
    assert words in alert["message"]
    for task_id in (AUDIT, CHECK):
        assert words in scene.log(run_id, task_id), task_id
    for text in (alert["message"], scene.log(run_id, AUDIT), scene.log(run_id, CHECK)):
        assert "Pa55" not in text


# --- the alert cannot be sent -------------------------------------------------------------------------------------


def source_outcomes(scene: Scene, run_id: str) -> list[tuple[str, str, str]]:
    return scene.query(
        "select outcome, status, message from analytics.audit_node_history "
        f"where resource_type = 'source' and airflow_run_id = '{run_id}'"
    )


def test_unsent_alert_fails_its_task_and_can_be_sent_later(scene: Scene) -> None:
    functions, sns = seed.client(scene.settings, "lambda"), seed.client(scene.settings, "sns")
    scene.alerts()
    scene.query("update landing.settings set divisor = 0", "awsuser")
    functions.put_function_concurrency(FunctionName=seed.FUNCTION, ReservedConcurrentExecutions=0)
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id) == "failed"
    states = scene.states(run_id)
    assert (states[CHECK], states[ALERT], scene.alerts()) == ("failed", "failed", [])
    check_log = scene.log(run_id, CHECK)
    assert "1 failed or skipped:" in check_log
    assert "model.flights.ratio (error" in check_log
    assert "division by zero" in check_log.lower() or "divide by zero" in check_log.lower()
    # A stale source that is only measured does not keep the models from being built.
    assert states[FRESHNESS] == "success"
    assert "1 warned:\nsource.flights.landing.settings (warn, try 1): newest row" in check_log
    assert source_outcomes(scene, run_id) == [("warned", "error", "newest row loaded at 2013-01-01 00:00")]
    assert "(TooManyRequestsException) when calling the Invoke operation" in scene.log(run_id, ALERT)

    functions.delete_function_concurrency(FunctionName=seed.FUNCTION)
    (topic,) = [topic["TopicArn"] for topic in sns.list_topics()["Topics"] if topic["TopicArn"].endswith(seed.TOPIC)]
    sns.delete_topic(TopicArn=topic)
    assert scene.clear(run_id, ALERT) == "failed"
    assert scene.states(run_id)[ALERT] == "failed"
    assert "(NotFound) when calling the Publish operation" in scene.log(run_id, ALERT)

    seed.seed(scene.settings, scene.passwords, HOST, scene.settings.warehouse_port)
    assert scene.clear(run_id, ALERT) == "failed"
    assert scene.states(run_id)[ALERT] == "success"
    (alert,) = scene.alerts()
    assert re.fullmatch(rf"FAILED( AGAIN)? {DAG}: model\.flights\.ratio", alert["subject"])

    scene.query("update landing.settings set divisor = 1", "awsuser")
    assert scene.clear(run_id) == "success"
    assert scene.query("select id from analytics.ratio") == [(1,)]


# --- a stale source -----------------------------------------------------------------------------------------------


def test_stale_source_that_is_required_fails_the_run_before_the_models(scene: Scene) -> None:
    def version() -> int:
        # Airflow parses changed files at once.
        os.utime(scene.settings.state / "mwaa" / "dags" / "pipelines.py")
        return scene.client.call("GET", f"/dags/{DAG}/details")["latest_dag_version"]["version_number"]

    scene.alerts()
    before = version()
    with replaced(scene, "dags/pipelines.yml", lambda text: text.replace("freshness: measure", "freshness: require")):
        wait(lambda: version() > before, 60)
        run_id = scene.client.trigger(DAG)
        assert scene.ended(run_id) == "failed"
    states = scene.states(run_id)
    assert (states[AUDIT], states[FRESHNESS], states[PRODUCER]) == ("success", "failed", "upstream_failed")
    (alert,) = scene.alerts()
    assert re.fullmatch(rf"FAILED( AGAIN)? {DAG}: source\.flights\.landing\.settings", alert["subject"])
    assert re.search(r"landing\.settings \(error, try 2.*\)\n  newest row [\d,.]+ hours old\n", alert["message"])
    assert source_outcomes(scene, run_id) == [("failed", "error", "newest row loaded at 2013-01-01 00:00")]
    runs = scene.query(f"select outcome, failed_nodes from analytics.audit_runs where airflow_run_id = '{run_id}'")
    assert runs == [("failed", 1)]
    failed_today = [row[:3] for row in scene.query(statement("what_failed_on_a_day"))]
    assert failed_today == [(f"{DAG}/{run_id}", "settings", "source")]
    assert scene.query(statement("what_failed_on_a_day 2013-01-01")) == []


# --- import errors ------------------------------------------------------------------------------------------------

ENTRY = """
  - dag_name: {name}
    project_name: {project}
    redshift_connection_id: {name}_redshift
    target_database: dev
    target_schema: {name}
    schedule: {schedule}
"""


def entries(*, project: str = "flights", **schedules: str) -> str:
    return "".join(ENTRY.format(name=name, project=project, schedule=schedule) for name, schedule in schedules.items())


# The change to pipelines.yml, and the expected error.
FILES: dict[str, tuple[Callable[[str], str | None], str]] = {
    "missing": (lambda _: None, "pipelines.yml is missing. Create it"),
    "empty": (lambda _: "", "pipelines.yml must contain a list under the key 'pipelines', with at least one entry"),
    "duplicate": (
        lambda text: text + entries(twin="null") + entries(twin="null"),
        "pipeline twin: dag_name must be unique; another entry uses it already",
    ),
    "no project": (
        lambda text: text + entries(project="nowhere", lost="null"),
        "pipeline lost: the dbt project 'nowhere' has no release in",
    ),
    "cycle": (
        lambda text: text + entries(hen="[egg]", egg="[hen]"),
        "pipeline hen: schedule: the assets form a cycle: hen waits for egg waits for hen",
    ),
}


def shown_error(scene: Scene, words: str) -> str | None:
    """Return the import error that contains `words`, as the commands print it."""
    # Airflow parses changed files at once.
    for name in ("pipelines.py", "pipelines_errors.py"):
        os.utime(scene.settings.state / "mwaa" / "dags" / name)
    errors = scene.client.call("GET", "/importErrors")["import_errors"]
    return next((text for error in errors if words in (text := import_error(error["stack_trace"]))), None)


@contextlib.contextmanager
def replaced(scene: Scene, key: str, change: Callable[[str], str | None]) -> Iterator[None]:
    """Change the content of an object in the bucket, or delete the object if `change` returns None."""
    s3 = seed.client(scene.settings, "s3")
    before = s3.get_object(Bucket=seed.DAGS_BUCKET, Key=key)["Body"].read()
    after = change(before.decode())
    if after is None:
        s3.delete_object(Bucket=seed.DAGS_BUCKET, Key=key)
    else:
        s3.put_object(Bucket=seed.DAGS_BUCKET, Key=key, Body=after.encode())
    try:
        yield
    finally:
        s3.put_object(Bucket=seed.DAGS_BUCKET, Key=key, Body=before)


@pytest.mark.parametrize("case", FILES)
def test_invalid_pipelines_file_is_an_import_error(scene: Scene, case: str) -> None:
    change, words = FILES[case]
    with replaced(scene, "dags/pipelines.yml", change):
        wait(lambda: shown_error(scene, words), 60)


def test_incomplete_release_is_an_import_error_that_names_the_fix(scene: Scene) -> None:
    s3 = seed.client(scene.settings, "s3")
    folder = "dags/dbt/flights/"
    current = s3.get_object(Bucket=seed.DAGS_BUCKET, Key=f"{folder}CURRENT")["Body"].read().decode().strip()
    manifest, release_json = f"{folder}{current}/manifest.json", f"{folder}{current}/release.json"
    with replaced(scene, manifest, lambda text: text[: len(text) // 2]):
        wait(lambda: shown_error(scene, f"{current}': 'the size of manifest.json differs from release.json"), 60)
    with replaced(scene, release_json, lambda text: text.replace('"dbt_version": "1.11', '"dbt_version": "1.9')):
        wait(lambda: shown_error(scene, "is of dbt 1.9"), 60)
        assert shown_error(scene, "but workers run dbt 1.11; build it again: python -m mwaa_release build")
    wait(lambda: shown_error(scene, "") is None, 60)
