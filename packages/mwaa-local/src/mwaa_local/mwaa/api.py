"""A client of Airflow's REST API for the commands."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from mwaa_local.settings import HOST, SetupError
from mwaa_release.airflow_api import stores_release

FINAL = {"success", "failed"}
_PARSE_REQUEST_SECONDS = 3.0
_OLD_ERRORS_SECONDS = 5
# Airflow answers 500 if it reads a DAG at the moment at which its DAG processor replaces it.
_ATTEMPTS, _SECONDS_BETWEEN_ATTEMPTS = 3, 1.0
# A frame of Python, of an installed package or of the package that a release adds to dags/.
_LIBRARY = re.compile(r'File "(?:<|[^"]*/(?:lib/python[\d.]+|site-packages|mwaa_pipelines|airflow/dag_processing)/)')


def import_error(stack_trace: str) -> str:
    """Reduce a DAG file's traceback to its error, with the line of the team's code unless it is a PipelineError."""
    lines = stack_trace.rstrip().splitlines() or [""]
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    after = frames[-1] + 1 if frames else 0
    # The message begins after the indented lines of the last frame, and can have several lines.
    first = next((number for number in range(after, len(lines)) if lines[number][:1].strip()), 0)
    message = "\n".join(lines[first:])
    if not frames or "PipelineError" in lines[first]:
        return message
    own = [number for number in frames if not _LIBRARY.search(lines[number])]
    return f"{message}\n    {lines[(own or frames)[-1]].strip()}"


class NoAnswerError(SetupError):
    """Airflow's API server does not answer, or answers with a server error."""


class Airflow:
    """A client of the local Airflow.

    Args:
        port: of the API server.
        password: of the user admin.
    """

    def __init__(self, port: int, password: str) -> None:
        self.url = f"http://{HOST}:{port}"
        self._password = password
        self._client = httpx.Client(base_url=self.url, timeout=60)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def health(self) -> dict[str, str | None]:
        """Return the status of each component by name, or nothing while Airflow does not answer."""
        try:
            answer = self._client.get("/api/v2/monitor/health", timeout=5)
        except httpx.TransportError:
            return {}
        return {name: part["status"] for name, part in answer.json().items()} if answer.is_success else {}

    def call(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        """Call `/api/v2{path}` as admin. Reads are repeated after a server error.

        Raises:
            httpx.HTTPStatusError: the request was refused.
            NoAnswerError: the server does not answer, or answers with a server error.
        """
        try:
            answer = self._send(method, path, json, params)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                del self._client.headers["Authorization"]
                answer = self._send(method, path, json, params)
            for _ in range(_ATTEMPTS - 1):
                if method != "GET" or not answer.is_server_error:
                    break
                time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
                answer = self._send(method, path, json, params)
        except httpx.TransportError as error:
            raise NoAnswerError(f"Airflow does not answer at {self.url} ({error})") from error
        if answer.is_server_error:
            raise NoAnswerError(
                f"Airflow cannot answer {method} {answer.url}: {answer.status_code} {answer.text[:200]}"
            )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, json: Any, params: dict[str, Any]) -> httpx.Response:
        if "Authorization" not in self._client.headers:
            login = {"username": "admin", "password": self._password}
            token = self._client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            self._client.headers["Authorization"] = f"Bearer {token}"
        return self._client.request(method, f"/api/v2{path}", json=json, params=params or None)

    def wait_for_dag(self, dag_id: str, release_id: str, seconds: float) -> None:
        """Wait until Airflow has parsed the DAG from this release, and can import it.

        Raises:
            SetupError: Airflow has not parsed it in time, or a DAG file cannot be imported.
        """
        until = time.monotonic() + seconds
        requested = 0.0
        # Airflow keeps errors of files that are fixed by now, and MWAA copies file by file. Ignore older errors.
        ignored_until = datetime.now(UTC) + timedelta(seconds=_OLD_ERRORS_SECONDS)
        while True:
            try:
                dag = self.call("GET", f"/dags/{dag_id}/details")
                # A change of a DAG file alone makes no new release.
                is_imported = not dag["has_import_errors"] and not dag["is_stale"]
                if is_imported and stores_release(dag, release_id):
                    return
                # A new release changes no DAG file, so Airflow would parse it again only after the interval.
                if time.monotonic() - requested > _PARSE_REQUEST_SECONDS:
                    requested = time.monotonic()
                    self._request_parsing(dag)
            except httpx.HTTPStatusError as error:
                # Not parsed yet.
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise
            self._check_imports(ignored_until)
            if time.monotonic() > until:
                raise SetupError(f"Airflow did not show the DAG {dag_id} of release {release_id} after {seconds:.0f} s")
            time.sleep(0.5)

    def check_dag_file(self, dag_id: str, since: datetime) -> None:
        """Raise if Airflow can no longer import a DAG, because it starts no more tasks of its runs.

        A DAG file can be copied after Airflow has shown the DAG of the release, which may be unchanged.

        Args:
            dag_id: of the DAG.
            since: when the last file was copied. Errors before can be those of a half-copied release.

        Raises:
            SetupError: the DAG cannot be imported; the message has the file, the line and the exception.
        """
        dag = self.call("GET", f"/dags/{dag_id}")
        if dag["has_import_errors"] or dag["is_stale"]:
            self._request_parsing(dag)
            self._check_imports(since)

    def _request_parsing(self, dag: dict[str, Any]) -> None:
        try:
            self.call("PUT", f"/parseDagFile/{dag['file_token']}")
        except httpx.HTTPStatusError as error:
            # Parsing has been requested already, or Airflow does not have the file yet.
            if error.response.status_code not in {httpx.codes.NOT_FOUND, httpx.codes.CONFLICT}:
                raise

    def _check_imports(self, since: datetime) -> None:
        problems = [
            f"{problem['filename']}: {import_error(problem['stack_trace'])}"
            for problem in self.call("GET", "/importErrors")["import_errors"]
            if datetime.fromisoformat(problem["timestamp"]) > since
        ]
        if problems:
            listed = "\n".join(dict.fromkeys(problems))
            raise SetupError(f"Airflow cannot import a DAG file\n{listed}\nCorrect dags/, then run the command again")

    def end_open_runs(self, dag_id: str) -> None:
        """Pause the DAG, and mark the unfinished runs of an interrupted command as failed."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": True})
        for state in ("queued", "running"):
            for run in self.call("GET", f"/dags/{dag_id}/dagRuns", state=state)["dag_runs"]:
                self.call("PATCH", f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}", {"state": "failed"})

    def trigger(self, dag_id: str) -> str:
        """Start a run, and return its run_id. It replaces a run that is due by the schedule.

        Raises:
            SetupError: Airflow can no longer import the DAG.
        """
        due = self.call("GET", f"/dags/{dag_id}")["next_dagrun_logical_date"]
        dates = [due, None] if due and datetime.fromisoformat(due) <= datetime.now(UTC) else [None]
        for logical_date in dates:
            try:
                run = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": logical_date})
                break
            except httpx.HTTPStatusError as error:
                # An earlier command has already started the due run.
                if error.response.status_code != httpx.codes.CONFLICT or logical_date is None:
                    self.check_dag_file(dag_id, datetime.now(UTC) - timedelta(seconds=_OLD_ERRORS_SECONDS))
                    raise
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        return run["dag_run_id"]

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]

    def run_seconds(self, dag_id: str, run_id: str) -> float:
        """Return the duration of a run that has ended, as Airflow's pages show it."""
        return self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["duration"]

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run in the order of their start."""
        instances: list[dict[str, Any]] = []
        while True:
            path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
            page = self.call("GET", path, limit=100, offset=len(instances))
            instances += page["task_instances"]
            if len(instances) >= page["total_entries"] or not page["task_instances"]:
                return sorted(instances, key=lambda task: (task["start_date"] or "9", task["task_id"]))
