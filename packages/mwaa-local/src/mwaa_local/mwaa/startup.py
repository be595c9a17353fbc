"""Runs startup.sh as MWAA's image does, and merges the variables that it exports into a container's environment.

The image's rules, with their source, are in mwaa_release/contracts/mwaa_startup.toml.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mwaa_local.processes import tail
from mwaa_local.settings import SetupError
from mwaa_release.contracts import contract

_CONTRACT = contract("mwaa_startup")
TIME_LIMIT_SECONDS: int = _CONTRACT["time_limit_seconds"]
PROTECTED = frozenset(_CONTRACT["protected_names"])
_GRACE_SECONDS = 5

# In startup.sh, `exit` ends the script and not the container. A shell that ends in another way leaves no variables.
_SOURCE = """
export_variables() {
    env -0 >"${exported}"
    unalias exit
    exit
}
script=$1 exported=$2
shopt -s expand_aliases
alias exit=export_variables
source "${script}"
export_variables
"""


def merge_environment(
    container: Mapping[str, str], startup: Mapping[str, str], options: Mapping[str, str], essential: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of an Airflow process, merged in the image's order.

    Args:
        container: variables that the container starts with.
        startup: variables that startup.sh has left.
        options: configuration options of the environment; startup.sh cannot change them.
        essential: variables that MWAA sets last.
    """
    protected = {
        name: value
        for name, value in container.items()
        if name in PROTECTED or name.startswith(tuple(_CONTRACT["protected_prefixes"]))
    }
    return {**container, **startup, **options, **protected, **essential}


def run_startup_script(script: Path, environment: Mapping[str, str], log: Path) -> dict[str, str]:
    """Source a startup script in bash, and return the environment that it leaves.

    Args:
        script: startup.sh; its folder is the working directory.
        environment: of the shell.
        log: file for the output.

    Raises:
        SetupError: the script ran too long, or ended its shell. On MWAA, either stops the container.
    """
    exported = log.with_suffix(".env")
    exported.unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/bash", "-c", _SOURCE, "startup", str(script), str(exported)],
            env=environment,
            cwd=script.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = process.wait(TIME_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        _end_group(process)
        raise SetupError(
            f"startup.sh did not end within {TIME_LIMIT_SECONDS // 60} min {TIME_LIMIT_SECONDS % 60} s, which is "
            "MWAA's limit. On MWAA the container becomes unhealthy and is stopped. Move slow steps out of startup.sh. "
            f"{log} ends with:\n{tail(log)}"
        ) from None
    except BaseException:
        _end_group(process)
        raise
    if not exported.exists():
        raise SetupError(
            f"startup.sh ended its shell with exit code {code}. On MWAA the container becomes unhealthy and is "
            f"stopped. Remove set -e, set -u and exec from startup.sh. {log} ends with:\n{tail(log)}"
        )
    pairs = (entry.partition("=") for entry in exported.read_text().split("\0") if entry)
    exported.unlink()
    return {name: value for name, _, value in pairs}


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a shell and everything that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
