"""The audit report works in a real browser."""

import base64
from pathlib import Path

import pytest
from fake_history import REPORT_TIME, history

from audit_report.page import render
from mwaa_local.testing.browser import Browser

pytestmark = pytest.mark.slow


def saved(folder: Path, views: dict) -> Path:
    path = folder / "report.html"
    page = render(views, "dev.analytics", 30, REPORT_TIME, "https://github.com/acme/data")
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("large"), history(500, 20))


def assert_no_requests_or_scripts(browser: Browser, path: Path) -> None:
    """Assert that the page requested only itself, logged no error and ran no injected script."""
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert {address for address in browser.requests() if address != "data:,"} == {path.as_uri()}
    assert browser.complaints() == []
    assert browser.run("window.hacked === undefined && document.querySelectorAll('main img').length === 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_10_000_rows_render_within_three_seconds(browser, large, width, scheme):
    browser.open(large, width, scheme)
    assert 0 < int(browser.run("document.documentElement.dataset.ready")) < 3_000
    assert (
        browser.run("[...document.querySelectorAll('main section')].filter(s => s.querySelector('.empty')).length") == 0
    )
    assert browser.run("document.querySelectorAll('canvas').length") == 3
    assert browser.run("document.documentElement.scrollWidth") <= width
    output = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in output[4:-1].split(",")) < 200) == (scheme == "dark")
    screenshot = base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])
    assert len(screenshot) > 10_000
    assert_no_requests_or_scripts(browser, large)


def test_filters_change_the_page(browser, large):
    browser.open(large)
    assert browser.run("document.querySelector('#summary dd').textContent") == "500"
    browser.run("$('status').value = 'failed'; $('status').dispatchEvent(new Event('change'))")
    assert browser.run("document.querySelector('#summary dd').textContent") == "72"
    assert browser.run("$('run').selectedOptions[0].textContent").startswith("2026-03-31 11:00 ✗")
    browser.run("$('pipeline').value = 'by hand'; $('pipeline').dispatchEvent(new Event('change'))")
    assert browser.run("document.querySelector('#summary dd').textContent") == "15"
    browser.run("$('text').value = 'MODEL_7'; $('text').dispatchEvent(new Event('input'))")
    browser.wait_for("document.querySelectorAll('#timeline tbody tr').length === 1")
    assert "No failure" in browser.run("$('failures-body').textContent")
    browser.run("document.querySelector('[type=reset]').click()")
    browser.wait_for("document.querySelector('#summary dd').textContent === '500'")
    assert_no_requests_or_scripts(browser, large)


def test_type_filter_keeps_nodes_of_one_type(browser, large):
    browser.open(large)
    assert browser.run("[...$('type').options].map(option => option.value)") == ["", "model"]
    browser.run("$('type').value = 'model'; $('type').dispatchEvent(new Event('change'))")
    empty = "[...document.querySelectorAll('main section')].filter(s => s.querySelector('.empty')).map(s => s.id)"
    assert browser.run(empty) == ["tests", "sources"]


def test_runs_link_to_airflow_and_to_the_commit_of_their_release(browser, large):
    browser.open(large)
    links = browser.run("[...document.querySelectorAll('#runs-body tr:nth-child(2) a')].map(link => link.href)")
    assert links == [
        "https://github.com/acme/data/commit/0123abc",
        "http://127.0.0.1:8080/dags/flights_pipeline/runs/scheduled__2026-03-31T10%3A00%3A00",
    ]


def test_runs_show_the_cost_of_their_queries(browser, large, tmp_path):
    browser.open(large)
    cells = "[...document.querySelectorAll('#runs-body tr:nth-child(2) .number')].map(cell => cell.textContent)"
    assert browser.run(cells)[:4] == ["1 min 31 s", "1 min 01 s", "0.10 s", "3.1 GB"]
    timeline = browser.run("document.querySelector('#timeline caption').textContent")
    assert timeline.endswith("Queries ran 1 min 01 s, queued 0 s, scanned 3.1 GB.")
    browser.open(saved(tmp_path, {**history(3, 2), "costs": []}))
    assert "Scanned" not in browser.run("$('runs-body').textContent")


@pytest.mark.parametrize("width", [1280, 390])
def test_single_day_has_one_mark_on_the_axis_of_days(browser, tmp_path, width):
    path = saved(tmp_path, history(3, 2))
    browser.open(path, width)
    axes = browser.run("[...charts.values()].map(chart => chart.axes[0]._values)")
    assert axes[0] == ["03-31"]
    assert all(len(set(marks)) == len(marks) > 1 for marks in axes[1:])
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_page_can_be_used_with_the_keyboard_only(browser, large):
    browser.open(large)
    browser.press("/", "Slash", 191)
    assert browser.run("document.activeElement.id") == "text"
    browser.press("z", "KeyZ", 90)
    browser.wait_for("$('nodes-body').textContent.includes('No row matches')")
    browser.press("Backspace", "Backspace", 8)
    browser.wait_for("!$('nodes-body').textContent.includes('No row matches')")
    browser.run("document.querySelectorAll('#runs-body tbody button')[2].focus()")
    browser.press("Enter", "Enter", 13)
    assert browser.run("[document.activeElement.id, $('run').value]") == ["timeline-h", "2"]
    browser.run("document.querySelector('#nodes-body thead th:nth-child(8) button').focus()")
    browser.press("Enter", "Enter", 13)
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"
    browser.run("$('theme').focus()")
    browser.press("Enter", "Enter", 13)
    assert browser.run("[document.documentElement.dataset.theme, $('theme').textContent]") == ["dark", "Light mode"]
    assert_no_requests_or_scripts(browser, large)


def test_elements_have_names_and_enough_contrast(browser, large):
    for scheme in ("light", "dark"):
        browser.open(large, scheme=scheme)
        assert (
            browser.run("""[...document.querySelectorAll('table')]
            .filter(table => !table.caption && !table.classList.contains('u-legend')).length""")
            == 0
        )
        assert (
            browser.run("""[...document.querySelectorAll('button, select, input, a, [role=img], [role=region]')]
            .filter(one => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).length""")
            == 0
        )
        # WCAG 2.2, 1.4.3: https://www.w3.org/TR/WCAG22/#contrast-minimum
        ratios = browser.run("""(() => {
            const light = text => text.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
                .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((all, part, place) => all + part * [0.2126, 0.7152, 0.0722][place], 0);
            const ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            return ['text', 'quiet', 'accent', 'passed', 'warned', 'failed', 'skipped'].flatMap(name =>
                ['page', 'card'].map(ground => ratio(light(colour(name)), light(colour(ground)))));
        })()""")
        assert min(ratios) >= 4.5


def test_empty_history_shows_a_message(browser, tmp_path):
    path = saved(tmp_path, history(0, 0))
    browser.open(path)
    assert "No runs on these days." in browser.run("$('runs-body').textContent")
    assert int(browser.run("document.querySelectorAll('.empty').length")) >= 7
    assert_no_requests_or_scripts(browser, path)


def test_injected_requests_and_scripts_are_blocked_and_reported(browser, large, tmp_path):
    """The other tests depend on this: the page's policy blocks injected content and reports it."""
    path = tmp_path / "altered.html"
    path.write_text(
        large.read_text().replace(
            "</main>", "<script>window.hacked = 1</script><img src='http://127.0.0.1:9/x'></main>"
        )
    )
    browser.open(path)
    browser.run("new Promise(done => setTimeout(done, 200))")
    messages = [event["entry"]["text"] for event in browser.named("Log.entryAdded")]
    assert sum("Content Security Policy" in text for text in messages) == 2
    assert browser.run("window.hacked === undefined")
