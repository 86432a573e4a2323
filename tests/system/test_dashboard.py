"""The page in a real browser, against a real service and a simulated beamline."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import wait_for
from tests.system.processes import Child

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
pytest.importorskip("bokeh", reason="no bokeh")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
TOKEN = "sesame-opens-this-very-door"
PATIENCE_MS = 60_000
MAPS = ("amplitude", "phase", "coverage", "confidence", "probe", "pattern")

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(240),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome"),
    # Playwright's own loop is closed by its process' end.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LONG = ("--set=scan.shape=[200, 40]", "--set=scan.rate_hz=60")
"""More than two minutes of frames: none of the looks at it waits so long."""
DRAWN = "name => !document.querySelector(`#card-${name} .none`).checkVisibility()"
RANGE = """name => {
  const {x_range: x, y_range: y} = Bokeh.documents[0].get_model_by_name(name)
  return [x.start, x.end, y.start, y.end]
}"""
STEP = (
    """() => Bokeh.documents[0].get_model_by_name("curves_source").data.time_s.length"""
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One headless browser for all."""
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"]
        )
        yield launched
        launched.close()


class Look:
    """A page, and what its console complained of."""

    def __init__(self, browser: Any, address: str, **given: Any) -> None:
        self.context = browser.new_context(**given)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_function("window.views !== undefined")

    def text(self, selector: str) -> str:
        """Return what an element says."""
        return self.page.inner_text(selector)

    def until_says(self, selector: str, text: str) -> None:
        """Wait until an element that can be seen says this."""
        self.page.locator(selector, has_text=text).wait_for(timeout=PATIENCE_MS)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@pytest.fixture
def dashboard(start: Callable[..., Child], tmp_path: Path) -> Callable[..., str]:
    """Start a dashboard for a service's addresses; return the page's."""

    def run(addresses: dict[str, str], *flags: str) -> str:
        names = ("control", "status", "preview")
        where = [f"--{name}={addresses[name]}" for name in names]
        child = start("dashboard", "--listen=127.0.0.1:0", *where, *flags)
        return child.line()["ready"]["dashboard"]

    return run


@pytest.fixture
def token(tmp_path: Path) -> str:
    """The flag that names a file with the token."""
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(TOKEN)
    return f"--token-file={path}"


def test_a_scan_is_seen_zoomed_and_stopped(simulate, serve, dashboard, token, browser):
    _, endpoints = simulate(*LONG)
    service = serve(endpoints)
    look = Look(browser, dashboard(service.addresses, token))
    page = look.page
    for name in MAPS:
        page.wait_for_function(DRAWN, arg=name)
    look.until_says("#state", "live")

    # It grows; a view that somebody set stays, and the linked maps come along.
    rows = page.evaluate(STEP)
    page.wait_for_function(f"() => ({STEP})() > {rows}")
    page.focus("#card-amplitude [data-keys]")
    for key in ("+", "+", "ArrowRight"):
        page.keyboard.press(key)
    set_by_me = page.evaluate(RANGE, "amplitude")
    linked = page.evaluate(RANGE, "coverage")
    assert sum(linked[:2]) == pytest.approx(sum(set_by_me[:2]))
    rows = page.evaluate(STEP)
    page.wait_for_function(f"() => ({STEP})() >= {rows} + 3")
    # The frame may become a pixel narrower, and the view keeps its aspect: what is
    # left, right and in the middle stays.
    stays = page.evaluate(RANGE, "amplitude")
    assert stays[:2] == pytest.approx(set_by_me[:2])
    assert sum(stays[2:]) == pytest.approx(sum(set_by_me[2:]))
    assert stays == pytest.approx(set_by_me, rel=0.01)
    page.click("#card-amplitude [data-zoom=whole]")
    assert page.evaluate(RANGE, "amplitude") != pytest.approx(set_by_me, rel=0.1)

    # Contrast that somebody types stays too, while new pictures come.
    page.fill("#card-amplitude [data-end=lo]", "0.5")
    rows = page.evaluate(STEP)
    page.wait_for_function(f"() => ({STEP})() >= {rows} + 3")
    page.press("#card-amplitude [data-end=lo]", "Tab")
    rows = page.evaluate(STEP)
    page.wait_for_function(f"() => ({STEP})() >= {rows} + 2")
    scale = 'Bokeh.documents[0].get_model_by_name("amplitude_scale").low'
    assert page.evaluate(scale) == 0.5
    assert look.errors == []

    # Without the token nothing can be ordered; a wrong one is told.
    assert not page.is_visible("[data-order=stop]")
    page.fill("#token", "not-the-token-at-all")
    page.click("#unlock button")
    look.until_says("#said", "wrong token")
    assert "401" in " ".join(look.errors)
    page.fill("#token", TOKEN)
    page.click("#unlock button")
    page.click("[data-order=hold]")
    look.until_says("#state", "held")
    page.click("[data-order=resume]")
    look.until_says("#state", "live")
    page.click("[data-order=stop]")
    page.click("#confirm button[value=yes]")
    ended = service.ended()
    assert ended["refined"] == "stopped by request"
    look.until_says("#past", ended["scan"])
    assert TOKEN not in page.content()
    look.context.close()


def test_a_service_that_goes_is_told_and_comes_back(
    simulate, serve, dashboard, token, browser
):
    _, endpoints = simulate("--set=scan.scans=20", "--set=scan.gap_s=1")
    service = serve(endpoints)
    where = service.addresses
    fixed = [f"--set=publish.{n}={where[n]}" for n in ("control", "status", "preview")]
    look = Look(browser, f"{dashboard(where, token)}#token={TOKEN}")
    page = look.page
    # The fragment opened it, and is out of sight.
    page.wait_for_selector("[data-order=stop]")
    assert TOKEN not in page.url
    page.wait_for_function(DRAWN, arg="amplitude")
    assert not page.is_visible("#banner")

    service.child.send(signal.SIGTERM)
    assert service.child.ends() == 0
    look.until_says("#banner", "has been silent")
    assert page.is_disabled("[data-order=stop]")
    assert page.evaluate(DRAWN, "amplitude")
    serve(endpoints, *fixed)
    page.wait_for_selector("#banner", state="hidden")
    page.wait_for_function("() => !document.body.classList.contains('gone')")
    assert look.errors == []
    look.context.close()


@pytest.mark.slow
def test_a_dashboard_that_goes_is_told_and_comes_back(simulate, serve, start, browser):
    _, endpoints = simulate()
    service = serve(endpoints)
    names = ("control", "status", "preview")
    where = [f"--{name}={service.addresses[name]}" for name in names]
    first = start("dashboard", "--listen=127.0.0.1:0", *where)
    address = first.line()["ready"]["dashboard"]
    look = Look(browser, address)
    look.until_says("#readonly", "read-only")
    first.send(signal.SIGTERM)
    assert first.ends() == 0, first.said()
    look.until_says("#banner", "dashboard itself does not answer")
    port = address.rstrip("/").rpartition(":")[2]
    start("dashboard", f"--listen=127.0.0.1:{port}", *where).line()
    look.page.wait_for_selector("#banner", state="hidden")
    look.page.wait_for_function("window.views !== undefined")
    look.context.close()


@pytest.mark.slow
def test_nothing_overflows_and_every_control_has_a_name(
    simulate, serve, dashboard, browser
):
    _, endpoints = simulate()
    address = dashboard(serve(endpoints).addresses)
    for scheme, width in (("light", 360), ("dark", 1280), ("light", 2560)):
        given = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
        look = Look(browser, address, **given)
        look.page.wait_for_function(DRAWN, arg="pattern")
        is_laid_out(look.page, width)
        is_of_scheme(look.page, scheme)
        assert look.errors == []
        look.context.close()


def is_laid_out(page: Any, width: int) -> None:
    """Assert that no card is wider than its place, and no control is without a name."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """() => [...document.querySelectorAll(".card")]
      .filter((card) => card.scrollWidth > card.clientWidth + 1)
      .map((card) => card.id)"""
    assert page.evaluate(wide) == []
    unnamed = """() => [...document.querySelectorAll("button, input, select")]
      .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
      .length"""
    assert page.evaluate(unnamed) == 0


def is_of_scheme(page: Any, scheme: str) -> None:
    """Assert that the page, and the plots on it, are light or dark."""
    shade = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert (sum(page.evaluate(shade)) < 200) is (scheme == "dark")
    error = 'Bokeh.documents[0].get_model_by_name("error")'
    style = "getComputedStyle(document.documentElement).getPropertyValue('--muted')"
    label = page.evaluate(f"{error}.below[0].axis_label_text_color")
    assert label == page.evaluate(style).strip()


@pytest.mark.slow
def test_the_demo_serves_the_page_and_tells_where(start, browser, tmp_path):
    child = start("demo", "--preset=half", "--seconds=5", f"--results={tmp_path}")
    address = wait_for(lambda: re.search(r"dashboard +(\S+)", child.said()), "it", 90)[
        1
    ]
    look = Look(browser, address)
    look.page.wait_for_selector("[data-order=stop]")
    assert look.errors == []
    look.context.close()
    assert child.ends(120) == 0, child.said()
