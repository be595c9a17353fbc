"""Moves a pipeline between two environments with fake Airflows. tests/e2e/test_two_environments.py uses real ones."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.config import Config

from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.fake_airflow import create_environment, serving
from mwaa_release.errors import DeployError, SetupError, StoppedError
from mwaa_release.move import move

DAG = "flights_pipeline"


@dataclass
class Airflow:
    """A fake Airflow with one DAG and a run that ends after some requests."""

    paused: bool = True
    unfinished: int = 0
    exists: bool = True
    catchup: bool = False
    # Starts a run at the moment when the DAG is paused, as a scheduler can.
    starts_late: bool = False
    changes: list[bool] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/api/v2/dags/~/dagRuns/list":
            assert (method, body) == ("POST", {"dag_ids": [DAG], "states": ["queued", "running"]})
            runs = [{"dag_run_id": "nightly"}] if self.unfinished else []
            # A run of a paused DAG makes no progress.
            self.unfinished -= bool(runs) and not self.paused
            return 200, {"dag_runs": runs}
        if not self.exists:
            return 404, {"detail": "no"}
        if method == "PATCH":
            assert path == f"/api/v2/dags/{DAG}"
            self.paused = body["is_paused"]
            self.changes.append(self.paused)
            if self.paused and self.starts_late:
                self.starts_late, self.unfinished = False, 2
            return 200, {}
        assert (method, path) == ("GET", f"/api/v2/dags/{DAG}/details")
        return 200, {"is_paused": self.paused, "catchup": self.catchup}


class Client:
    """A boto3 client that fails at one request, before or after Airflow has received it."""

    def __init__(self, mwaa: Any, at: int, failure: BaseException, after: bool) -> None:
        self._mwaa, self._left, self._failure, self._after = mwaa, at, failure, after

    def invoke_rest_api(self, **call: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise self._failure
        answer = self._mwaa.invoke_rest_api(**call)
        if self._left == 0:
            raise self._failure
        return answer


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with running_aws(tmp_path_factory.mktemp("move")) as running:
        yield running


@pytest.fixture(scope="module")
def mwaa(aws: Aws) -> Any:
    return aws.client("mwaa", config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}))


@dataclass
class Scene:
    """Two environments: the DAG is on in `blue` and off in `green`."""

    aws: Aws
    mwaa: Any
    blue: Airflow
    green: Airflow
    names: tuple[str, str]

    def move(self, mwaa: Any = None, **options: Any) -> None:
        move(mwaa or self.mwaa, DAG, *self.names, poll_seconds=0.01, **options)

    @property
    def on(self) -> list[str]:
        return [name for name, airflow in (("blue", self.blue), ("green", self.green)) if not airflow.paused]


@pytest.fixture
def scene(aws: Aws, mwaa: Any) -> Iterator[Scene]:
    blue, green = Airflow(paused=False, unfinished=2), Airflow()
    names = (f"blue-{secrets.token_hex(4)}", f"green-{secrets.token_hex(4)}")
    with serving(blue.answer) as blue_port, serving(green.answer) as green_port:
        for name, port in zip(names, (blue_port, green_port), strict=True):
            create_environment(mwaa, name, Tags={"local-airflow": f"http://admin:x@127.0.0.1:{port}"})
        yield Scene(aws, mwaa, blue, green, names)


def test_pipeline_moves_after_its_runs_have_ended(scene: Scene) -> None:
    messages = []
    scene.move(progress=lambda action, *_: messages.append((action, scene.on)))
    assert (scene.on, scene.blue.changes, scene.green.changes) == (["green"], [True], [False])
    # The DAG is on until its run has ended, and then off in both environments for a moment.
    assert messages[0] == (f"waiting for run nightly of {DAG} on {scene.names[0]}", ["blue"])
    assert messages[-1] == (f"switching {DAG} on in {scene.names[1]}", [])


def test_move_waits_for_a_run_that_starts_at_the_last_moment(scene: Scene) -> None:
    scene.blue.starts_late = True
    scene.move()
    assert (scene.on, scene.blue.changes) == (["green"], [True, False, True])
    assert scene.blue.unfinished == 0


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda scene: setattr(scene.green, "paused", False), "is on in blue.* and green.*Switch it off in green"),
        (lambda scene: setattr(scene.blue, "paused", True), "is on in neither environment.* Switch it on in blue"),
        (
            lambda scene: (setattr(scene.blue, "paused", True), setattr(scene.green, "paused", False)),
            "is on in green.*It has been moved already",
        ),
        (lambda scene: setattr(scene.green, "exists", False), "green.* has no DAG flights_pipeline.*release to that"),
        (lambda scene: setattr(scene.green, "catchup", True), "has catchup on: green.*Set catchup to false"),
        (lambda scene: setattr(scene, "names", (scene.names[0],) * 2), "--from and --to are both blue"),
        (lambda scene: setattr(scene, "names", (scene.names[0], "nobody")), "there is no MWAA environment nobody"),
    ],
)
def test_move_is_rejected_without_a_change_if_the_start_state_is_wrong(
    scene: Scene, prepare: Callable[[Scene], object], words: str
) -> None:
    prepare(scene)
    with pytest.raises(SetupError, match=words):
        scene.move()
    assert scene.blue.changes + scene.green.changes == []


def test_move_fails_without_a_change_if_a_run_does_not_end(scene: Scene) -> None:
    scene.blue.unfinished = 10**6
    with pytest.raises(DeployError, match=r"run nightly did not end .*--timeout\); .* is still on in blue.*nothing ch"):
        scene.move(drain_seconds=0.05)
    assert scene.blue.changes + scene.green.changes == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failure", [DeployError("AWS refused"), KeyboardInterrupt()])
def test_pipeline_is_on_in_one_environment_after_any_failed_request(
    scene: Scene, failure: BaseException, after: bool
) -> None:
    """Requests of a successful move: two for the state, one per poll of the runs, and two to pause and unpause."""
    for number in range(3, 9):
        scene.blue.__init__(paused=False, unfinished=2)
        scene.green.__init__()
        with pytest.raises(StoppedError if isinstance(failure, KeyboardInterrupt) else DeployError) as raised:
            scene.move(Client(scene.mwaa, number, failure, after))
        assert scene.on == ["blue"], number
        assert f"{DAG} is still on in {scene.names[0]}" in str(raised.value) or (
            f"{DAG} is on in {scene.names[0]} again, and off in {scene.names[1]}" in str(raised.value)
        )
    scene.blue.__init__(paused=False, unfinished=2)
    scene.move(Client(scene.mwaa, 9, failure, after))


def test_persistent_failure_names_both_environments(scene: Scene) -> None:
    scene.blue.unfinished = 0

    class Broken:
        calls = 0

        def invoke_rest_api(self, **call: Any) -> Any:
            Broken.calls += 1
            if Broken.calls > 5:
                raise DeployError("AWS refused")
            return scene.mwaa.invoke_rest_api(**call)

    with pytest.raises(DeployError, match=r"switching back failed too .AWS refused.*must be on in blue.* off in green"):
        scene.move(Broken())


def test_ctrl_c_prints_where_the_pipeline_is_on(scene: Scene) -> None:
    scene.blue.unfinished = 10**6
    process = subprocess.Popen(
        [sys.executable, "-m", "mwaa_release", "move", DAG, "--from", scene.names[0], "--to", scene.names[1]],
        env={**os.environ, **scene.aws.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    unfinished_before = scene.blue.unfinished
    deadline = time.monotonic() + 120
    while scene.blue.unfinished == unfinished_before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert f"Error: interrupted; {DAG} is still on in {scene.names[0]}; nothing changed" in output
    assert "Traceback" not in output
    assert scene.on == ["blue"]
