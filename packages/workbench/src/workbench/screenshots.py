"""Take screenshots: `make screenshots`, with Chromium installed.

Those of the documentation, in docs/assets/screenshots/, show the output of `make run`, the graph in Airflow and the
report. The others show what to check after a change, in .local/screenshots/: the grid and a failed model's log in
Airflow, the report on a phone and in dark mode, and the site.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.terminal_theme import MONOKAI

from mwaa_local import drill, report
from mwaa_local.mwaa.api import Airflow
from mwaa_local.run_command import run as run_pipeline
from mwaa_local.settings import REPOSITORY, Passwords, Settings
from mwaa_local.testing.browser import Browser
from mwaa_release.pipelines import first_pipeline
from mwaa_release.progress import console

DOCUMENTED = REPOSITORY / "docs" / "assets" / "screenshots"
SITE = REPOSITORY / ".local" / "site" / "index.html"
WIDTH, HEIGHT, PHONE_WIDTH = 1280, 900, 390
# Airflow's pages show a list beside the graph or grid.
AIRFLOW_WIDTH = 1600
_PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0;background:#0c0c0c">
<pre style="margin:0;padding:16px 20px;font:14px/1.18 'DejaVu Sans Mono',monospace;color:#d9d9d9;width:max-content">
<code style="font-family:inherit">{code}</code></pre>"""


# Running the pipeline changes the environment to mark its child processes. `down` must not get that mark.
ENVIRONMENT = dict(os.environ)


def command(module: str, name: str) -> None:
    subprocess.run([sys.executable, "-m", module, name], cwd=REPOSITORY, env=ENVIRONMENT, check=True)


def save(browser: Browser, path: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(browser.picture(width, height))
    print(path)


def terminal(browser: Browser, settings: Settings, folder: Path, path: Path) -> None:
    """Run the pipeline as `make run` does on a terminal of 110 columns."""
    console.record, console.width = True, 110
    assert run_pipeline(settings) == 0
    page = folder / "terminal.html"
    page.write_text(console.export_html(theme=MONOKAI, code_format=_PAGE, inline_styles=True), encoding="utf-8")
    browser.open(page, 1000, height=4000)
    save(browser, path, browser.run("document.body.scrollWidth"), browser.run("document.body.scrollHeight"))


def airflow(browser: Browser, settings: Settings, view: str, path: Path) -> None:
    """Show the newest run as `graph` or `grid`, or the `log` of the drill's model."""
    password, dag_id = Passwords.load(settings.state).airflow_admin, first_pipeline().dag_name
    with contextlib.closing(Airflow(settings.airflow_port, password)) as api:
        run = api.call("GET", f"/dags/{dag_id}/dagRuns", order_by="-run_after", limit=1)["dag_runs"][0]
        login = {"username": "admin", "password": password}
        token = httpx.post(f"{api.url}/auth/token", json=login).raise_for_status().json()["access_token"]
    browser.call("Network.setCookie", name="_token", value=token, url=api.url)
    browser.open(api.url)
    browser.run(f"""localStorage.setItem('default_dag_view', '"{"grid" if view == "grid" else "graph"}"')""")
    page = f"{api.url}/dags/{dag_id}/runs/{run['dag_run_id']}"
    if view == "log":
        page += f"/tasks/transform_data.{drill.MODEL}_run"
    browser.open(page, AIRFLOW_WIDTH, height=HEIGHT)
    text = "by zero" if view == "log" else "pipeline_succeeded"
    browser.wait_for(f"document.body.innerText.includes('{text}')")
    # Wait for the animation of the graph.
    time.sleep(3)
    save(browser, path, AIRFLOW_WIDTH)


def report_page(browser: Browser, page: Path, path: Path, width: int = WIDTH, scheme: str = "light") -> None:
    browser.open(page, width, scheme)
    browser.wait_for("document.documentElement.dataset.ready")
    save(browser, path, width)


def site(browser: Browser, path: Path, scheme: str) -> None:
    browser.open(SITE, scheme=scheme)
    # The site remembers the mode of the first visit.
    browser.run("localStorage.clear()")
    browser.open(SITE, scheme=scheme)
    save(browser, path)


def take_screenshots(settings: Settings) -> None:
    """Run the sample pipeline and a drill, and take screenshots."""
    others = settings.state / "screenshots"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        browser = Browser(folder / "profile")
        try:
            command("mwaa_local", "up")
            terminal(browser, settings, folder, DOCUMENTED / "run.png")
            airflow(browser, settings, "graph", DOCUMENTED / "airflow.png")
            command("mwaa_local", "drill")
            airflow(browser, settings, "grid", others / "airflow_grid.png")
            airflow(browser, settings, "log", others / "airflow_log.png")
            page = report.write(settings, folder / "report.html", 30)
            report_page(browser, page, DOCUMENTED / "report.png")
            report_page(browser, page, others / "report_dark.png", scheme="dark")
            report_page(browser, page, others / "report_phone.png", PHONE_WIDTH)
            command("workbench", "site")
            for scheme in ("light", "dark"):
                site(browser, others / f"site_{scheme}.png", scheme)
        finally:
            browser.close()
            command("mwaa_local", "down")
