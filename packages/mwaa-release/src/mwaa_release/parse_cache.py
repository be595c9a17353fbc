"""Stores results of dbt's parse by the content of everything that dbt reads, so an unchanged project is parsed once.

Commands on a laptop and the check of a pull request use it. A release for AWS is always parsed. As with dbt's partial
parsing, a project whose configuration depends on the current time keeps the configuration of its first parse.
"""

import hashlib
import json
import os
import re
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mwaa_release
from mwaa_release.manifest import build_manifest, parse_environment
from mwaa_release.release import list_files
from mwaa_release.run_dbt import Listing

_STORED = 30  # results
_USES = re.compile(r"\benv_var\b(?!\s*\()|\benv_var\s*\((?:\s*['\"](\w+))?")


def cached_manifest(
    cache: Path,
    project: Path,
    profiles: Path,
    selections: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
) -> tuple[dict[str, Any], dict[str, Listing]]:
    """Return what `build_manifest` returns, from the folder `cache` if the same content has been parsed before.

    Raises:
        BuildError, SetupError: as `build_manifest`.
    """
    digest = _digest(project, profiles, selections, environment)
    if digest is None:
        return build_manifest(project, profiles, selections, environment)
    path = cache / f"{digest}.json"
    try:
        stored = json.loads(path.read_bytes())
        os.utime(path)
    except (FileNotFoundError, ValueError):
        manifest, listings = build_manifest(project, profiles, selections, environment)
        _store(path, {"manifest": manifest, "listings": {name: vars(value) for name, value in listings.items()}})
        return manifest, listings
    return stored["manifest"], {
        name: Listing(tuple(value["nodes"]), value["error"]) for name, value in stored["listings"].items()
    }


def _digest(
    project: Path, profiles: Path, selections: Mapping[str, Sequence[str]], environment: Mapping[str, str]
) -> str | None:
    """Return a digest of everything that dbt reads, or None if a variable's name is computed."""
    files = list_files(project)
    names = _variables([*(project / file.path for file in files), profiles])
    if names is None or not profiles.is_file():
        return None
    seen = parse_environment(environment)
    content = {
        "files": [(file.path, file.sha256) for file in files],
        "profiles": profiles.read_text(encoding="utf-8", errors="replace"),
        "selections": {name: list(arguments) for name, arguments in selections.items()},
        "environment": {name: seen[name] for name in sorted(seen) if name.startswith(names)},
        "packages": sorted(path.name for path in Path(sysconfig.get_path("purelib")).glob("*.dist-info")),
        "code": [path.read_text(encoding="utf-8") for path in sorted(Path(mwaa_release.__file__).parent.glob("*.py"))],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _variables(files: Sequence[Path]) -> tuple[str, ...] | None:
    """Return how the names of all variables start that the files read by env_var(), or None if a name is computed."""
    names: set[str] = set()
    for path in files:
        if path.suffix in {".sql", ".yml", ".yaml", ".md"} and path.is_file():
            names.update(_USES.findall(path.read_text(encoding="utf-8", errors="replace")))
    return None if "" in names else tuple(names)


def _store(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Other commands can store the same result at this moment.
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
    oldest_first = sorted(path.parent.iterdir(), key=lambda stored: stored.stat().st_mtime)
    for stored in oldest_first[:-_STORED]:
        stored.unlink(missing_ok=True)
