"""Run a command and summarize it in a Markdown file: `python -m workbench summary Lint -- make lint`.

The file is `<state>/summaries/<title>.md`. On GitHub it is also the job's summary, and part of the comment on the pull
request. The output and the exit code of the command are passed through.
"""

import os
import re
import subprocess
import time
from pathlib import Path

# A comment on GitHub has at most 65,536 characters, and contains four summaries.
_LINES, _CHARACTERS = 60, 12_000


def markdown(title: str, code: int, seconds: float, output: str) -> str:
    """Return a summary: one line, and the end of the output in a code block that the output cannot close."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    # A progress bar overwrites its line after each carriage return.
    lines = [line.rsplit("\r", 1)[-1] for line in plain.rstrip().split("\n")]
    end = "\n".join(lines[-_LINES:])[-_CHARACTERS:]
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", end)), 3)
    head = f"{'✅' if code == 0 else '❌'} **{title}** {f'exit code {code}, ' if code else ''}{seconds:.0f} s"
    opened = " open" if code else ""
    return f"{head}\n\n<details{opened}><summary>Output</summary>\n\n{fence}text\n{end}\n{fence}\n\n</details>\n\n"


def run_and_summarize(state: Path, title: str, command: list[str]) -> int:
    """Run a command, write its summary, and return its exit code.

    Args:
        state: the state folder; the summary goes into its folder `summaries`.
        title: heading and file name of the summary.
        command: program and arguments.
    """
    started = time.monotonic()
    output = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            output.append(line)
    text = markdown(title, process.returncode, time.monotonic() - started, "".join(output))
    folder = state / "summaries"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{title.lower().replace(' ', '-')}.md").write_text(text, encoding="utf-8")
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    return process.returncode
