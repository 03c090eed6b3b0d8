"""The report as a browser shows it: headless Chromium, on a small run that has everything."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fakes_report import run_on_disk
from tests.unit.report.browser import Browser, installed
from workflow_scripts import build_report

pytestmark = pytest.mark.skipif(installed() is None, reason="no Chromium; CONTRIBUTING.md says how to install it")

# Links that do not bring their section to the top of the window, or as far up as the page can be scrolled.
BROKEN_LINKS = """[...document.querySelectorAll('a')].map(link => {
  scrollTo(0, 0);
  link.click();
  const section = document.getElementById(link.hash.slice(1));
  const top = section ? section.getBoundingClientRect().top : NaN;
  const lowest = scrollY + innerHeight >= document.documentElement.scrollHeight - 1;
  return Math.abs(top) < 2 || (lowest && top > 0 && top < innerHeight) ? '' : link.href;
}).filter(Boolean)"""

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

# Sections with a wide table that has to be scrolled sideways.
CUT_TABLES = """[...document.querySelectorAll('.wide')].map(each => each.parentElement)
  .filter(each => each.scrollWidth > each.clientWidth).map(each => each.closest('section').id)"""

# Texts whose contrast with what is behind them is below 4.5, the least that WCAG 2 calls readable (section 1.4.3).
FAINT = r"""(() => {
  const parts = color => color.match(/[\d.]+/g).map(Number);
  const linear = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  const opaque = color => parts(color).length < 4 || parts(color)[3] > 0;
  const behind = element => {
    for (let each = element; each; each = each.parentElement)
      if (opaque(getComputedStyle(each).backgroundColor)) return parts(getComputedStyle(each).backgroundColor);
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.textContent.trim()) continue;
    const element = node.parentElement, style = getComputedStyle(element);
    const ink = parts(element instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [luminance(ink), luminance(behind(element))].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${node.textContent.trim().slice(0, 40)}`);
  }
  return faint;
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arguments = run_on_disk(tmp_path_factory.mktemp("run"), ["teacher", "ctc-raw", "ctc"])
    output = tmp_path_factory.mktemp("report")
    build_report.main(argparse.Namespace(**arguments, output=output))
    return output / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(installed() or "", tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_report_in_a_browser(browser: Browser, report: Path, width: int, scheme: str) -> None:
    browser.open(report, width, scheme)
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.querySelectorAll('a').length") >= 10 and browser.ask(BROKEN_LINKS) == []
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.ask(SIDEWAYS) == 0
    if width > 1000:
        assert browser.ask(CUT_TABLES) == []
    assert browser.ask(FAINT) == []
    assert browser.complaints == []


def test_what_is_wrong_is_seen(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text(
        '<a href="#nowhere">faint</a><p style="color: #999; width: 500px">wide</p>'
        "<script>console.error('trouble'); undefined.thing</script>"
    )
    browser.open(page, 400)
    assert browser.ask(BROKEN_LINKS) and browser.ask(SIDEWAYS) > 0 and browser.ask(FAINT) == ["2.85 wide"]
    assert len(browser.complaints) == 2
    browser.complaints.clear()
