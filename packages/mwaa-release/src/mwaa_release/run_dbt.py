"""Runs dbt in a separate process, from this Python's environment."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mwaa_release.errors import SetupError


@dataclass(frozen=True)
class Listing:
    """The unique ids of the nodes of a selection, sorted; or dbt's error."""

    nodes: Sequence[str] = ()
    error: str = ""


def clean_environment(*kept: str) -> dict[str, str]:
    """Return this process's environment without a developer's exported settings of dbt and of the warehouse.

    Args:
        kept: prefixes of `DBT_` variables to keep.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DBT_", "REDSHIFT_")) or name.startswith(kept)
    }


def run_dbt(
    *arguments: str,
    project: Path,
    scratch: Path,
    environment: Mapping[str, str],
    profiles: Path | None = None,
    shown: bool = False,
    timeout: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run one dbt command, and return its exit code and output.

    Args:
        arguments: the command and its options, such as `"source", "freshness"`.
        project: folder with dbt_project.yml.
        scratch: folder for dbt's target/ and logs/.
        environment: all variables that dbt sees.
        profiles: folder with profiles.yml; default: the project.
        shown: leave the output on the terminal; the result has none.
        timeout: seconds.

    Raises:
        SetupError: dbt is not installed.
        subprocess.TimeoutExpired: dbt took longer.
    """
    executable = Path(sys.executable).with_name("dbt")
    if not executable.exists():
        raise SetupError(f"{executable} is missing; install the tools with: make deps")
    places = [f"--project-dir={project}", f"--profiles-dir={profiles or project}", f"--log-path={scratch / 'logs'}"]
    if arguments[0] != "deps":
        places.append(f"--target-path={scratch / 'target'}")
    return subprocess.run(
        [str(executable), "--no-use-colors", *arguments, *places],
        env=dict(environment),
        stdout=None if shown else subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def parse_and_list(
    selections: Mapping[str, Sequence[str]],
    project: Path,
    scratch: Path,
    environment: Mapping[str, str],
    profiles: Path,
    timeout: float,
) -> "tuple[subprocess.CompletedProcess[str], dict[str, Listing]]":
    """Parse a project for its target `prod`, and list the nodes of selections, in one process.

    Args:
        selections: arguments of `dbt list`, such as `("--select", "tag:mart")`, by a name.
        project: folder with dbt_project.yml.
        scratch: folder for dbt's target/ and logs/.
        environment: all variables that dbt sees.
        profiles: folder with profiles.yml.
        timeout: seconds.

    Returns:
        The exit code and output of the parse, and, if it succeeded, the nodes of each selection.

    Raises:
        subprocess.TimeoutExpired: dbt took longer.
    """
    options = [f"--project-dir={project}", f"--profiles-dir={profiles}", "--target=prod"]
    options += [f"--target-path={scratch / 'target'}", f"--log-path={scratch / 'logs'}"]
    output = scratch / "selections.json"
    run = subprocess.run(
        [sys.executable, "-m", "mwaa_release.list_nodes"],
        input=json.dumps({"options": options, "selections": selections, "output": str(output)}),
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if run.returncode:
        return run, {}
    listings = json.loads(output.read_text(encoding="utf-8"))
    return run, {
        name: Listing(tuple(listing.get("nodes", ())), listing.get("error", "")) for name, listing in listings.items()
    }
