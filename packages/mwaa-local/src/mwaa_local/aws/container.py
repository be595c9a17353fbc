"""The only container of a task of ECS: a process with the image's programs, a memory limit and a log stream."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from moto.backends import get_backend

from mwaa_local.aws.access import DeniedError, check_role
from mwaa_local.aws.logged_process import logged_lines, start_process
from mwaa_local.aws.process_tree import ProcessTree
from mwaa_local.settings import ACCOUNT_ID, REGION, Settings
from mwaa_release.policies import Right

# The default of `stopTimeout`, in seconds.
_STOP_SECONDS = 30
_MEMORY_LOOK_SECONDS = 0.1
# A container ended by Linux for its memory.
KILLED = 137
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
_PULL = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")


def images_folder(state: Path) -> Path:
    """Return the folder with the images of the stand-in: `<repository>/<tag>/image.json`.

    An image has `path` (folders with programs), `environment` and `entrypoint`.
    """
    return state / "images"


class Container:
    """One container.

    Args:
        folder: for its files.
        settings: addresses and state folder of the stand-in.
        definition: of the container, in the task definition.
        agent_role: with which ECS pulls the image and writes the log.
        command: replaces the image's arguments, after its entrypoint.
        environment: of the process.
        memory: MiB that the task may use.
        log_stream: last part of the log stream's name.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        definition: dict[str, Any],
        agent_role: str,
        command: Sequence[str] | None,
        environment: Mapping[str, str],
        memory: int,
        log_stream: str,
    ) -> None:
        self.definition = definition
        # The members of a Task in the API that change.
        self.state: dict[str, Any] = {"lastStatus": "PROVISIONING", "desiredStatus": "RUNNING"}
        self._folder, self._settings, self._agent_role = folder, settings, agent_role
        self._command, self._environment, self._memory = command, environment, memory
        options = definition["logConfiguration"]["options"]
        self._group = options["awslogs-group"]
        self._stream = f"{options['awslogs-stream-prefix']}/{definition['name']}/{log_stream}"
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._is_out_of_memory = False
        self._tree: ProcessTree | None = None
        self._thread = threading.Thread(target=self._live, daemon=True)

    def start(self) -> None:
        """Start the container, in a thread."""
        self._thread.start()

    def stop(self, code: str, reason: str) -> None:
        """Ask the process to end, and kill it if it has not within the definition's stopTimeout."""
        with self._lock:
            if self.state["desiredStatus"] == "STOPPED":
                return
            self.state |= {"desiredStatus": "STOPPED", "stopCode": code, "stoppedReason": reason}
            process = self._process
        if process:
            self._signal(signal.SIGTERM)
            timer = threading.Timer(self.definition.get("stopTimeout", _STOP_SECONDS), self._signal, (signal.SIGKILL,))
            timer.daemon = True
            timer.start()

    def kill(self) -> None:
        """Kill the process with its children, and wait for its end."""
        with self._lock:
            self.state["desiredStatus"] = "STOPPED"
        self._kill_all()
        self._thread.join(10)

    def _live(self) -> None:
        try:
            problem = self._problem()
            if problem:
                self._end(stopCode="TaskFailedToStart", stoppedReason=problem)
                return
            self.state["lastStatus"] = "PENDING"
            process = self._start()
            if not process:
                self._end()
                return
            self.state |= {"lastStatus": "RUNNING", "startedAt": time.time()}
            watcher = threading.Thread(target=self._watch_memory, daemon=True)
            watcher.start()
            for _ in logged_lines(process, self._group, self._stream):
                pass
            exit_code = process.wait()
            # The other processes of a container end with the first one.
            self._kill_all()
            ended = {"exitCode": exit_code if exit_code >= 0 else 128 - exit_code}
            if self._is_out_of_memory:
                ended["reason"] = OUT_OF_MEMORY
            if "stopCode" not in self.state:
                reason = OUT_OF_MEMORY if self._is_out_of_memory else "Essential container in task exited"
                ended |= {"stopCode": "EssentialContainerExited", "stoppedReason": reason}
            self._end(**ended)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, **members: Any) -> None:
        self.state |= {**members, "lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stoppedAt": time.time()}

    def _problem(self) -> str:
        """Return why the container cannot start, in the words of Fargate; empty if it can."""
        image, repository = self.definition["image"], self._repository()
        arn = f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{repository}"
        try:
            check_role(self._agent_role, [Right("ecr:GetAuthorizationToken", "*")])
        except DeniedError as error:
            return (
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
                f"failed: unable to retrieve ecr registry auth: service call has been retried 1 time(s): {error}"
            )
        try:
            check_role(self._agent_role, [Right(action, arn) for action in _PULL])
        except DeniedError as error:
            return f"CannotPullContainerError: pull image manifest has been retried 1 time(s): {image}: {error}"
        if not self._image_file().is_file():
            return (
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
                f"{image}: {image}: not found"
            )
        try:
            group = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{self._group}:log-stream:{self._stream}"
            check_role(self._agent_role, [Right("logs:CreateLogStream", group), Right("logs:PutLogEvents", group)])
            get_backend("logs")[ACCOUNT_ID][REGION].create_log_stream(self._group, self._stream)
        except DeniedError as error:
            problem = f"AccessDeniedException: {error}"
        except Exception:  # noqa: BLE001 - moto's "not found" errors have no common class
            problem = "ResourceNotFoundException: The specified log group does not exist."
        else:
            return ""
        return (
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
            f"failed to create Cloudwatch log stream: {problem} : exit status 1"
        )

    def _repository(self) -> str:
        return str(self.definition["image"]).partition("/")[2].partition(":")[0]

    def _image_file(self) -> Path:
        tag = self.definition["image"].rpartition(":")[2]
        return images_folder(self._settings.state) / self._repository() / tag / "image.json"

    def _start(self) -> "subprocess.Popen[str] | None":
        """Start the process and return it; None: the task was stopped before."""
        image = json.loads(self._image_file().read_text())
        environment = {
            **image["environment"],
            **self._environment,
            "PATH": os.pathsep.join([*image["path"], os.defpath]),
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        }
        command = [*image["entrypoint"], *(self._command or [])]
        with self._lock:
            if self.state["desiredStatus"] == "STOPPED":
                return None
            # The volume for temporary files. On Fargate, nothing else can be written to.
            self._process = start_process(self._settings, command, environment, self._folder / "tmp")
            self._tree = ProcessTree(self._process.pid)
            return self._process

    def _watch_memory(self) -> None:
        """Do what Linux does when the processes use more than the limit: kill the largest one."""
        while self._process and self._tree and self._process.poll() is None:
            sizes = self._tree.memory()
            if sum(sizes.values()) > self._memory * 1024**2:
                self._is_out_of_memory = True
                with contextlib.suppress(psutil.Error):
                    max(sizes, key=lambda process: sizes[process]).kill()
            time.sleep(_MEMORY_LOOK_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the first process, as ECS does. SIGKILL ends all of them."""
        if self._process and self._process.poll() is None:
            if number == signal.SIGKILL:
                self._kill_all()
            else:
                self._process.send_signal(number)

    def _kill_all(self) -> None:
        if self._tree:
            self._tree.kill()
