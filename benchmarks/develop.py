"""Benchmarks of the waiting time for a saved model, for `make build` and `make show`, and for the documentation."""

import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import Figure, interleaved
from benchmarks.warehouse.stand_ins import StandIns, running_stand_ins, seconds
from mwaa_local.processes import base_environment
from mwaa_local.settings import HOST, REPOSITORY, Passwords, SetupError
from mwaa_local.stack import PROJECT

_MODEL_NAME = "carriers"
_MODEL = f"models/marts/{_MODEL_NAME}.sql"
_SAVES = 7
_PAIRS = 3
_WATCH = (
    "import sys; from pathlib import Path; from mwaa_local.settings import Settings; from workbench.watch import watch"
)


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure the waiting times. This takes about two minutes.

    Raises:
        SetupError: a stand-in did not start, or a measured command failed.
    """
    with running_stand_ins() as bench:
        say("loading the sample data")
        developer = _Developer(bench)
        return [
            developer.save(say),
            developer.command("build", say),
            developer.command("show", say),
            developer.docs(say),
        ]


class _Developer:
    """A copy of the project, and a warehouse to build it in."""

    def __init__(self, bench: StandIns) -> None:
        self._settings = bench.settings
        self.folder = shutil.copytree(PROJECT, bench.settings.state / PROJECT.name)
        self._environment = {
            **base_environment(),
            **self._settings.aws_environment(),
            "LOCAL_DIR": str(self._settings.state),
            "LOCAL_WAREHOUSE_PORT": str(self._settings.warehouse_port),
            "REDSHIFT_HOST": HOST,
            "REDSHIFT_PORT": str(self._settings.warehouse_port),
            "REDSHIFT_PASSWORD": Passwords.load(self._settings.state).dbt_user,
        }
        _load_sources(bench)

    def save(self, say: Callable[[str], None]) -> Figure:
        """Measure the time from saving a small model to its result, compared with plain dbt."""
        say("a saved model")
        model = self.folder / _MODEL
        text = model.read_text()
        code = f"{_WATCH}; watch(Settings.from_environment(), [Path(sys.argv[1])])"
        watching = subprocess.Popen(
            [sys.executable, "-c", code, str(self.folder)],
            cwd=REPOSITORY,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            _until(watching, "Watching")
            self._dbt("build", "--select", f"+{_MODEL_NAME}")

            def saved() -> float:
                start = time.perf_counter()
                model.write_text(f"{text}-- {start}\n")
                output = _until(watching, " in ")
                if "failed" in output:
                    raise SetupError(f"the saved model failed: {output}")
                return time.perf_counter() - start

            saved()
            mine, plain = interleaved(
                _SAVES, saved, lambda: seconds(lambda: self._dbt("build", "--select", _MODEL_NAME))
            )
        finally:
            watching.send_signal(signal.SIGINT)
            watching.wait(60)
        return Figure(
            "make dev: from saving a small model to its result (must: 8 s)", mine, "s", "dbt build", plain, 0.6
        )

    def command(self, name: str, say: Callable[[str], None]) -> Figure:
        """Measure a command on one small model, compared with plain dbt. Its parents are in the warehouse already."""
        say(f"make {name}")
        mine = [sys.executable, "-m", "workbench", name, _MODEL_NAME]
        # Both need dbt's saved parse.
        _run(mine, REPOSITORY, self._environment)
        self._dbt(name, "--select", _MODEL_NAME)
        value, baseline = interleaved(
            _PAIRS,
            lambda: seconds(lambda: _run(mine, REPOSITORY, self._environment)),
            lambda: seconds(lambda: self._dbt(name, "--select", _MODEL_NAME)),
        )
        return Figure(f"make {name} of a small model (must: 5 s)", value, "s", f"dbt {name}", baseline, 1.3)

    def docs(self, say: Callable[[str], None]) -> Figure:
        """Measure `make docs`. The goal is 20 s."""
        say("documentation")
        command = [sys.executable, "-m", "workbench", "docs"]
        taken = [seconds(lambda: _run(command, REPOSITORY, self._environment)) for _ in range(_PAIRS)]
        return Figure("make docs", statistics.median(taken), "s", goal=20)

    def _dbt(self, *arguments: str) -> None:
        dbt = str(Path(sys.executable).with_name("dbt"))
        places = [f"--project-dir={self.folder}", f"--profiles-dir={self.folder}"]
        command = [dbt, "--quiet", *arguments, *places, "--vars", "{audit_enabled: false}"]
        command += ["--indirect-selection", "buildable"]
        _run(command, self.folder, self._environment)


def _load_sources(bench: StandIns) -> None:
    from mwaa_local.aws import seed
    from mwaa_local.stack import connect
    from mwaa_pipelines.load_files import Loader
    from mwaa_release.pipelines import first_pipeline
    from mwaa_release.redshift import apply_grants
    from mwaa_release.sample_data import create_tables, upload_sample
    from workbench.project import SCHEMA
    from workbench.warehouse import make_schemas

    settings, passwords = bench.settings, Passwords.load(bench.settings.state)
    seed.seed(settings, passwords, HOST, settings.warehouse_port)
    s3 = seed.client(settings, "s3")
    upload_sample(s3, seed.LANDING_BUCKET, settings.state / "sample-data")
    with connect(settings, "awsuser", passwords.awsuser) as connection:
        pipeline = first_pipeline()
        create_tables(connection, pipeline.target_schema)
        apply_grants(connection, "dbt_user", passwords.dbt_user, "landing", pipeline.target_schema)
        for table in pipeline.load:
            Loader(connection, s3, pipeline.target_schema).load(table, seed.LANDING_BUCKET)
    make_schemas(settings, [SCHEMA])


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    completed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SetupError(f"{' '.join(command)} failed:\n{(completed.stdout + completed.stderr)[-2000:]}")


def _until(process: "subprocess.Popen[str]", text: str) -> str:
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            return output
    raise SetupError(f"the measured command ended: {output}")
