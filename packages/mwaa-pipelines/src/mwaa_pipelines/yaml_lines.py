"""The line of a setting in pipelines.yml, for error messages. pydantic knows only the setting's name."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

# The setting that a message begins with: threads, load.0.table or env.KEY.
_SETTING = re.compile(r"[\w.-]+")


class Lines:
    """The lines of a pipelines file that has problems.

    Args:
        path: the file, which is valid YAML with a list of pipelines.
        environment: the environment whose settings apply.
        overlay: name of the key with the settings by environment.
    """

    def __init__(self, path: Path, environment: str | None, overlay: str) -> None:
        self._root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        self._overlays = [[overlay, environment]] if environment else []

    def line(self, number: int, problem: str) -> int:
        """Return the line of the setting that a problem is about; that of the entry if it lacks the setting.

        Args:
            number: of the entry, from 1.
            problem: a message that begins with the setting.
        """
        entry, defaults = ["pipelines", str(number - 1)], ["defaults"]
        match = _SETTING.match(problem)
        setting = match[0].rstrip(".").split(".") if match else []
        # The last of them applies in an environment.
        for overlay in (*self._overlays, []):
            for part in (entry, defaults):
                if setting and self._depth([*part, *overlay, setting[0]])[0] == len([*part, *overlay]) + 1:
                    return self._depth([*part, *overlay, *setting])[1]
        return self._depth(entry)[1]

    def _depth(self, keys: Iterable[str]) -> tuple[int, int]:
        """Return how many of some nested keys the file has, and the line of the last of these."""
        node, line, depth = self._root, 1, 0
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if pair[0].value == key), None)
            elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
                pair = (node.value[int(key)], node.value[int(key)])
            else:
                pair = None
            if not pair:
                break
            line, node, depth = pair[0].start_mark.line + 1, pair[1], depth + 1
        return depth, line
