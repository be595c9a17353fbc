"""Take the screenshots of docs/assets/screenshots/: `make screenshots`, with Chromium installed.

They show a new run: the terminal after `make run`, the run's graph in Airflow, and the report.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.terminal_theme import MONOKAI

from mwaa_local import report
from mwaa_local.mwaa.api import Airflow
from mwaa_local.run_command import run as run_pipeline
from mwaa_local.settings import REPOSITORY, Passwords, Settings
from mwaa_local.testing.browser import Browser
from mwaa_release.pipelines import first_pipeline
from mwaa_release.progress import console

PICTURES = REPOSITORY / "docs" / "assets" / "screenshots"
WIDTH = 1280
_PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0;background:#0c0c0c">
<pre style="margin:0;padding:16px 20px;font:14px/1.18 'DejaVu Sans Mono',monospace;color:#d9d9d9;width:max-content">
<code style="font-family:inherit">{code}</code></pre>"""


# Running the pipeline changes the environment to mark its child processes. `down` must not get that mark.
ENVIRONMENT = dict(os.environ)


def local(command: str) -> None:
    subprocess.run([sys.executable, "-m", "mwaa_local", command], cwd=REPOSITORY, env=ENVIRONMENT, check=True)


def terminal(settings: Settings, folder: Path) -> Path:
    """Run the pipeline as `make run` does on a terminal of 110 columns, and return the output as HTML."""
    console.record, console.width = True, 110
    code = run_pipeline(settings)
    assert code == 0
    page = folder / "terminal.html"
    page.write_text(console.export_html(theme=MONOKAI, code_format=_PAGE, inline_styles=True), encoding="utf-8")
    return page


def save(browser: Browser, name: str, height: int, width: int = WIDTH) -> None:
    (PICTURES / f"{name}.png").write_bytes(browser.picture(width, height))
    print(PICTURES / f"{name}.png")


def airflow_graph(browser: Browser, settings: Settings) -> None:
    password = Passwords.load(settings.state).airflow_admin
    url = f"http://127.0.0.1:{settings.airflow_port}"
    login = {"username": "admin", "password": password}
    token = httpx.post(f"{url}/auth/token", json=login).raise_for_status().json()["access_token"]
    browser.call("Network.setCookie", name="_token", value=token, url=url)
    browser.open(url)
    browser.run("localStorage.setItem('default_dag_view', JSON.stringify('graph'))")
    airflow = Airflow(settings.airflow_port, password)
    dag_id = first_pipeline().dag_name
    runs = airflow.call("GET", f"/dags/{dag_id}/dagRuns", order_by="-run_after", state="success", limit=1)["dag_runs"]
    airflow.close()
    browser.open(f"{url}/dags/{dag_id}/runs/{runs[0]['dag_run_id']}", 1600, height=900)
    browser.wait_for("document.querySelectorAll('.react-flow__node').length > 3")
    # Wait for the animation of the graph.
    time.sleep(3)
    save(browser, "airflow", 900, 1600)


def take_screenshots(settings: Settings) -> None:
    """Run the sample pipeline, and take screenshots of it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        browser = Browser(folder / "profile")
        try:
            local("up")
            page = terminal(settings, folder)
            browser.open(page, 1000, height=4000)
            save(browser, "run", browser.run("document.body.scrollHeight"), browser.run("document.body.scrollWidth"))
            airflow_graph(browser, settings)
            browser.open(report.write(settings, folder / "report.html", 30), WIDTH)
            browser.wait_for("document.documentElement.dataset.ready")
            save(browser, "report", 900)
        finally:
            browser.close()
            local("down")
