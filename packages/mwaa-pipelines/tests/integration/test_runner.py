"""The runner: `python -m mwaa_pipelines.runner` with a real release in S3, real secrets, dbt and a warehouse.

The statuses of nodes reach S3 while dbt runs, and the results are kept whatever ends dbt.
"""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from audit_report import DBT_PACKAGE
from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.node_ids import CHOSEN
from mwaa_pipelines.node_outcomes import xcom_key
from mwaa_pipelines.reporting import ENVIRONMENT
from mwaa_pipelines.results import LAST_WORDS_KEY, RESULTS_KEY
from mwaa_pipelines.runner.job import FORMAT, Job
from mwaa_pipelines.runner.release_files import fetch_release
from mwaa_pipelines.runner.stream import Batch, BatchReader, job_key
from mwaa_pipelines.unwritten_rows import SAFE_KEY

PASSWORD = "Pa55-of-runner"
# Ten billion rows take longer than any test.
SLOW = "select count(*) as row_count from " + ", ".join(f"digits as d{number}" for number in range(10))
SLOW = "with digits as (" + " union all ".join(f"select {number} as d" for number in range(10)) + f") {SLOW}"
MODELS = {
    "one_row": "{{ config(materialized='ephemeral') }} select 1 as id",
    "first": "select id from {{ ref('one_row') }}",
    "broken": "select id / (id - id) as ratio from {{ ref('first') }}",
    "after_broken": "select ratio from {{ ref('broken') }}",
    # After the ephemeral model, so that dbt starts with the model that others depend on.
    "slow": f"-- {{{{ ref('one_row') }}}}\n{SLOW} where {{{{ env_var('DBT_IS_SLOW', '0') }}}} = 1",
}
TESTS = """
models:
  - name: first
    columns: [{name: id, data_tests: [not_null]}]
exposures: [{name: board, type: dashboard, owner: {name: o}, depends_on: [ref('first')]}]
sources:
  - name: landing
    schema: runner
    tables:
      - name: loads
        config: {loaded_at_field: loaded_at, freshness: {error_after: {count: 24, period: hour}}}
"""
PROJECT = {"name": "shop", "version": "1.0", "profile": "shop", "models": {"shop": {"+materialized": "table"}}}
NOT_NULL = "test.shop.not_null_first_id.1792d32eec"


@dataclass
class Run:
    """A run of the runner, and what it has written to S3."""

    process: "subprocess.Popen[str]"
    reader: BatchReader
    lines: list[str] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)
    last: Batch | None = None

    def read(self) -> None:
        for batch in self.reader.read():
            assert self.last is None, "the last batch must be the last one"
            self.lines += batch.lines
            self.xcoms |= batch.xcoms
            self.last = batch if batch.is_last else None

    def wait_until_slow(self) -> None:
        """Wait until dbt builds the model that takes minutes, after the first one has been reported."""
        until = time.monotonic() + 60
        while not (
            "model.shop.first" in self.statuses
            and any("START sql table model runner.slow" in line for line in self.lines)
        ):
            assert self.process.poll() is None, "\n".join(self.lines)
            assert time.monotonic() < until, "\n".join(self.lines)
            time.sleep(0.1)
            self.read()

    def end(self) -> Batch:
        self.process.communicate(timeout=60)
        self.read()
        assert self.last is not None
        assert self.last.exit_code == self.process.returncode
        return self.last

    def dbt(self) -> psutil.Process:
        (process,) = psutil.Process(self.process.pid).children()
        return process

    @property
    def statuses(self) -> dict[str, str]:
        """The statuses that sensors see."""
        return {key: outcome["status"] for key, outcome in self.xcoms.get(xcom_key(0), {}).items()}


class Account:
    """A bucket with a release, the secrets, and a database user."""

    def __init__(self, aws: Any, warehouse: Any, folder: Path) -> None:
        self.aws, self.warehouse, self.folder = aws, warehouse, folder
        self.s3, self.secrets = aws.client("s3"), aws.client("secretsmanager")
        self.name = f"runner-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=self.name)
        connection = {"conn_type": "redshift", "host": warehouse.host, "port": warehouse.port, "schema": "dev"}
        self.put_secret("connection", {**connection, "extra": {"sslmode": "disable"}})
        self.put_secret("login", {"username": "runner_user", "password": PASSWORD})
        with warehouse.connect() as admin, admin.cursor() as cursor:
            cursor.execute(f"create user runner_user password '{PASSWORD}'")
            cursor.execute("create schema runner authorization runner_user")
            admin.commit()

    def put_secret(self, name: str, value: Any) -> None:
        self.secrets.create_secret(Name=f"{self.name}/{name}", SecretString=json.dumps(value))

    def release(self, release_id: str, **changes: Any) -> None:
        """Write the release, and CURRENT."""
        files = {f"models/{name}.sql": text for name, text in MODELS.items()}
        files |= {
            "seeds/colors.csv": "color\nred\nblue\n",
            "models/tests.yml": TESTS,
            "manifest.json": "{}",
            "dbt_project.yml": yaml.safe_dump(PROJECT),
        }
        # As `dbt deps` does; a release has the files.
        for path in DBT_PACKAGE.rglob("*"):
            if path.is_file() and not {"tests", "target", "logs"} & set(path.relative_to(DBT_PACKAGE).parts):
                files[f"dbt_packages/audit_trail/{path.relative_to(DBT_PACKAGE)}"] = path.read_text()
        listed = [{"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest()} for path, text in files.items()]
        content = {"release_id": release_id, "dbt_version": "1.11.0", "files": listed, **changes}
        files |= {"release.json": json.dumps(content), "selections/audit.json": "{}"}
        for path, text in files.items():
            self.s3.put_object(Bucket=self.name, Key=f"dags/dbt/shop/{release_id}/{path}", Body=text.encode())
        self.s3.put_object(Bucket=self.name, Key="dags/dbt/shop/CURRENT", Body=f"{release_id}\n".encode())

    def job(self, *command: str, **changes: Any) -> Job:
        job = Job(
            dag_id="shop_pipeline",
            run_id="run",
            task_id="transform_data.dbt_producer_watcher",
            try_number=1,
            projects=f"s3://{self.name}/dags/dbt",
            project_name="shop",
            release_id=None,
            command=list(command or ("build", "--exclude", "package:audit_trail")),
            environment={**ENVIRONMENT, "DBT_SEND_ANONYMOUS_USAGE_STATS": "False"},
            conn_id="shop_redshift",
            connection_secret=f"{self.name}/connection",
            secret_name=f"{self.name}/login",
            profile_args={"dbname": "dev", "schema": "runner", "threads": 1},
            watched_together={"tests of model.shop.first": [NOT_NULL]},
            parsed=f"s3://{self.name}/parsed.msgpack",
            kept_results=f"s3://{self.name}/kept_results",
            memory=512,
        )
        return replace(job, **changes)

    def start(self, job: Job) -> Run:
        prefix = f"runs/{uuid.uuid4()}"
        self.s3.put_object(Bucket=self.name, Key=job_key(prefix), Body=job.to_json())
        return self.start_at(f"s3://{self.name}/{prefix}")

    def start_at(self, url: str) -> Run:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
        environment |= {**self.aws.environment(), "DBT_JOB": url, "TMPDIR": str(self.folder)}
        command = [sys.executable, "-m", "mwaa_pipelines.runner"]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return Run(process, BatchReader(self.s3, url))

    def kept(self) -> dict[str, str]:
        """Return and delete the results that wait for the next run: status by node."""
        statuses = {}
        for entry in self.s3.list_objects_v2(Bucket=self.name, Prefix="kept_results/shop_pipeline/").get(
            "Contents", []
        ):
            content = json.loads(self.s3.get_object(Bucket=self.name, Key=entry["Key"])["Body"].read())
            statuses |= {result["unique_id"]: result["status"] for result in content["results"]}
            self.s3.delete_object(Bucket=self.name, Key=entry["Key"])
        return statuses

    def audit_rows(self, run: Run) -> dict[str, tuple[str, str]]:
        """Return status and release_id by node."""
        query = "select unique_id, status, release_id from runner.audit_table where invocation_id = %s"
        with self.warehouse.connect() as admin, admin.cursor() as cursor:
            cursor.execute(query, (run.xcoms[RESULTS_KEY]["invocation_id"],))
            return {unique_id: (status, release_id) for unique_id, status, release_id in cursor.fetchall()}


@pytest.fixture(scope="module")
def account(aws: Any, redshift: Any, tmp_path_factory: pytest.TempPathFactory) -> Account:
    """An account whose audit table exists."""
    account = Account(aws, redshift, tmp_path_factory.mktemp("runner"))
    account.release("20260101T000000Z-1111111")
    created = account.start(account.job("build", "--select", "tag:audit", watched_together=None))
    assert created.end().exit_code == 0, "\n".join(created.lines)
    # Only tasks that build many nodes report them one by one.
    assert set(created.xcoms) == {RESULTS_KEY}
    return account


@pytest.fixture(autouse=True)
def _no_leftovers(account: Account) -> Iterator[None]:
    yield
    account.kept()
    assert list(account.folder.iterdir()) == []


def test_current_release_is_built_and_audited_and_each_outcome_is_reported(account: Account) -> None:
    run = account.start(account.job())
    assert run.end() == Batch(run.last.lines, run.last.xcoms, exit_code=1, error="")
    # The task before it has parsed the project in another folder.
    assert not any("Starting full parse" in line for line in run.lines)
    expected = {"first": "success", "broken": "error", "after_broken": "skipped", "slow": "success"}
    results = {entry["unique_id"]: entry for entry in run.xcoms[RESULTS_KEY]["results"]}
    expected = {f"model.shop.{name}": status for name, status in expected.items()}
    expected |= {NOT_NULL: "pass", "seed.shop.colors": "success", "exposure.shop.board": "no-op"}
    assert expected == {node: entry["status"] for node, entry in results.items() if not node.startswith("operation.")}
    assert "division by zero" in results["model.shop.broken"]["message"]
    assert run.statuses["model.shop.first"] == run.statuses["model.shop.slow"] == "success"
    assert run.statuses["tests of model.shop.first"] == "pass"
    assert run.statuses["model.shop.broken"] == "error"
    rows = account.audit_rows(run)
    assert run.xcoms[RESULTS_KEY]["is_complete"] is True
    assert {node: rows[node][0] for node in results if node in rows} == {
        node: entry["status"] for node, entry in results.items() if node in rows
    }
    assert rows["model.shop.broken"] == ("error", "20260101T000000Z-1111111")
    # All of its results are in the audit table.
    assert (run.xcoms[SAFE_KEY], account.kept()) == ({"unique_ids": None}, {})
    text = "\n".join(run.lines)
    assert "Database Error in model broken" in text
    assert "MiB of memory" in text
    assert PASSWORD not in text


@pytest.mark.parametrize(("is_required", "status"), [(True, "error"), (False, "warn")])
def test_freshness_of_sources_is_reported(account: Account, is_required: bool, status: str) -> None:
    with account.warehouse.connect() as admin, admin.cursor() as cursor:
        cursor.execute("drop table if exists runner.loads")
        cursor.execute("create table runner.loads as select getdate() - interval '30 hours' as loaded_at")
        cursor.execute("grant select on runner.loads to runner_user")
        admin.commit()
    job = account.job("source", "freshness", watched_together=None, freshness_is_required=is_required)
    run = account.start(job)
    # dbt also fails if it is only measured. The task in Airflow decides.
    assert run.end().exit_code == 1
    (entry,) = run.xcoms[RESULTS_KEY]["results"]
    assert (entry["unique_id"], entry["status"]) == ("source.shop.landing.loads", status)
    assert entry["message"] == "newest row 30.0 hours old"
    assert account.audit_rows(run)["source.shop.landing.loads"][0] == "error"


def test_sigterm_ends_dbt_cleanly_and_keeps_the_results(account: Account) -> None:
    # The first task of a release.
    parsed = f"s3://{account.name}/first.msgpack"
    run = account.start(account.job(environment={**ENVIRONMENT, "DBT_IS_SLOW": "1"}, parsed=parsed))
    run.wait_until_slow()
    dbt = run.dbt()
    # Others can use them already.
    for key in ("first.msgpack", "first.msgpack.zip"):
        assert account.s3.head_object(Bucket=account.name, Key=key)["ContentLength"]
    run.process.send_signal(signal.SIGTERM)
    last = run.end()
    assert not dbt.is_running()
    assert last.exit_code not in (0, 3)
    assert last.error == "dbt was stopped before it had built everything. Its results so far were kept"
    # The task of a node that is missing here builds it.
    assert run.xcoms[RESULTS_KEY]["is_complete"] is False
    written = account.kept() | {node: status for node, (status, _) in account.audit_rows(run).items()}
    assert written["model.shop.first"] == "success"
    assert written["model.shop.slow"] in ("error", "skipped")


def test_killed_dbt_is_reported_as_out_of_memory_and_its_results_are_kept(account: Account) -> None:
    run = account.start(account.job(environment={**ENVIRONMENT, "DBT_IS_SLOW": "1"}))
    run.wait_until_slow()
    run.dbt().kill()
    last = run.end()
    assert last.exit_code == 137
    assert "needs more than its memory, 512 MiB. Raise memory under ecs in dags/pipelines.yml" in last.error
    stored = account.kept()
    assert stored["model.shop.first"] == "success"
    assert set(run.xcoms[SAFE_KEY]["unique_ids"]) == set(stored)


def test_wrong_login_reports_dbts_last_words(account: Account) -> None:
    account.put_secret("wrong", {"username": "runner_user", "password": "wrong-password"})
    run = account.start(account.job(secret_name=f"{account.name}/wrong"))
    assert run.end().exit_code in (1, 2)
    assert "password authentication failed" in run.xcoms[LAST_WORDS_KEY]
    assert "wrong-password" not in "\n".join(run.lines)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"release_id": "20250101T000000Z-0000000"},
            r"dags/dbt/shop/20250101T000000Z-0000000/release.json is missing.",
        ),
        ({"release_id": "../../x"}, "is not the name of a release"),
        ({"project_name": "sales"}, "dags/dbt/sales/CURRENT is missing"),
        ({"projects": "s3://no-such-bucket-of-the-runner/dags/dbt"}, "cannot be read: .*NoSuchBucket"),
        ({"connection_secret": "no/such"}, "'shop_redshift' .* cannot be read from the secret 'no/such': "),
        ({"secret_name": "no/such"}, r"the secret 'no/such' \(setting secret_name\) cannot be read"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_input_is_an_error_that_names_it(account: Account, changes: dict[str, Any], words: str) -> None:
    last = (run := account.start(account.job(**changes))).end()
    assert last.exit_code == 3
    assert re.search(words, last.error), last.error
    assert any(last.error in line for line in run.lines)


def test_damaged_release_or_one_of_another_dbt_is_refused(account: Account) -> None:
    current = "20260101T000000Z-1111111"
    try:
        account.release("20260102T000000Z-2222222", dbt_version="1.10.3")
        assert "but release 20260102T000000Z-2222222 was built with dbt 1.10.3. Build the image" in (
            account.start(account.job()).end().error
        )
        account.release("20260103T000000Z-3333333")
        key = "dags/dbt/shop/20260103T000000Z-3333333/models/first.sql"
        account.s3.put_object(Bucket=account.name, Key=key, Body=b"select 2 as id")
        assert (
            "models/first.sql of release 20260103T000000Z-3333333 differs"
            in account.start(account.job(parsed="")).end().error
        )
        # A run names its release, so it does not matter that CURRENT has changed since.
        assert account.start(account.job("list", "--select", "first", release_id=current)).end().exit_code == 0
    finally:
        account.release(current)


def test_files_of_a_release_are_kept_as_one_archive(account: Account, tmp_path: Path) -> None:
    release_id, archive = "20260104T000000Z-4444444", f"s3://{account.name}/archive.zip"
    account.release(release_id)

    def fetch() -> dict[str, bytes]:
        target = tmp_path / str(uuid.uuid4())
        fetch_release(account.s3, f"s3://{account.name}/dags/dbt", "shop", release_id, target, archive)
        return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}

    try:
        files = fetch()
        # dbt reads neither of the others.
        assert {"models/first.sql", "manifest.json", "selections/audit.json"} & files.keys() == {"models/first.sql"}
        account.s3.get_waiter("object_exists").wait(Bucket=account.name, Key="archive.zip", WaiterConfig={"Delay": 1})
        account.s3.delete_object(Bucket=account.name, Key=f"dags/dbt/shop/{release_id}/models/first.sql")
        assert fetch() == files
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w") as changed:
            changed.writestr("models/first.sql", "select 2 as id")
        for content in (b"not a zip file", other.getvalue()):
            account.s3.put_object(Bucket=account.name, Key="archive.zip", Body=content)
            with pytest.raises(PipelineError, match=r"models/first\.sql is missing"):
                fetch()
    finally:
        account.release("20260101T000000Z-1111111")


def test_nodes_are_selected_by_their_ids(account: Account) -> None:
    nodes = ["model.shop.first", "seed.shop.colors"]
    command = ("build", "--select", CHOSEN, "--indirect-selection", "empty")
    run = account.start(account.job(*command, selected_ids={CHOSEN: nodes}))
    assert run.end().exit_code == 0
    results = [entry["unique_id"] for entry in run.xcoms[RESULTS_KEY]["results"]]
    assert sorted(node for node in results if not node.startswith("operation.")) == nodes


def test_job_of_another_format_is_refused(account: Account) -> None:
    content = json.loads(account.job().to_json()) | {"format": FORMAT + 1}
    account.s3.put_object(Bucket=account.name, Key=job_key("runs/newer"), Body=json.dumps(content).encode())
    last = account.start_at(f"s3://{account.name}/runs/newer").end()
    assert (last.exit_code, "Build the image from the commit of the release" in last.error) == (3, True)


@pytest.mark.parametrize("url", ["", "s3://bucket-only", "s3://no-such-bucket-of-the-runner/runs/1"])
def test_missing_job_ends_the_runner(account: Account, url: str) -> None:
    run = account.start_at(url)
    output, _ = run.process.communicate(timeout=60)
    assert run.process.returncode == 3
    assert "the job" in output or "address of a job" in output


def test_runner_needs_only_the_packages_of_dbts_environment() -> None:
    code = "import sys, mwaa_pipelines.runner.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    startup = (Path(__file__).parents[4] / "startup.sh").read_text()
    pins = startup.partition("# pins: begin")[2].partition("# pins: end")[0]
    allowed = {line.partition("==")[0].replace("-", "_") for line in pins.splitlines() if "==" in line}
    allowed |= {"dateutil", "yaml", "mwaa_pipelines", "cython_runtime"} | set(sys.stdlib_module_names)
    third_party = {name for name in output.split() if not name.startswith("_")} - allowed
    assert third_party - set(_started_with_python()) == set()


def _started_with_python() -> list[str]:
    """Return the modules that this environment's .pth files load in each Python."""
    output = subprocess.run(
        [sys.executable, "-c", "import sys; print(*{name.partition('.')[0] for name in sys.modules})"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return output.split()
