"""The report in a real browser: nothing loads or complains, nothing overflows, all text can be read by everybody."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Page, binary, chromium
from tests.reported import Stored
from zephyr.evals.report.facts import gather
from zephyr.evals.report.page import render

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(binary() is None, reason="no chromium on PATH; install the package chromium"),
]

WIDTHS = (1280, 390)
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
NAMELESS = """[...document.querySelectorAll('svg, img, [role=img], [role=region]')]
  .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('alt') || e.querySelector(':scope > title')))
  .map(e => e.outerHTML.slice(0, 80))"""
OPEN = "document.querySelectorAll('details').forEach(d => d.open = true)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of whole runs with every verdict, of one that failed in training, and of one killed at once."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("passed", "failed", "pending", "broken", "nothing"):
            folder = tmp_path_factory.mktemp(name)
            patch.setenv("ZEPHYR_HOME", str(folder))
            run = Stored()
            if name == "broken":
                run.until_pairs()
                run.tell("sft", "start")
                run.tell("sft", "failed", message="no space left on /a/" + "long" * 60, user=True)
            elif name == "nothing":
                (run.folder / "recipe.json").unlink()
                run.tell("resolve", "start")
            else:
                run.whole(name, models=("dSFT-1", "dSFT-2", "dDPO", "dDPO+dSFT") if name == "passed" else ("dSFT-1",))
            found[name] = folder / "report.html"
            found[name].write_text(render(gather("r1")))
    return found


@pytest.mark.parametrize("name", ["passed", "failed", "pending", "broken", "nothing"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_the_report_in_a_browser(tab: Page, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    tab.show(pages[name], width, 900, dark)
    tab.run(OPEN)
    assert tab.run("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run(NAMELESS) == []
    found = tab.run(CONTRAST)
    assert found["texts"] > (20 if name == "nothing" else 100)
    assert found["poor"] == []  # below 4.5 to 1, WCAG AA
    asked = [e["params"]["request"]["url"] for e in tab.events if e["method"] == "Network.requestWillBeSent"]
    assert asked == [pages[name].as_uri()]
    assert [e for e in tab.events if e["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown")] == []
    assert [e for e in tab.events if e["method"] == "Log.entryAdded"] == []


def test_a_mistake_would_be_seen(tab: Page, tmp_path: Path) -> None:
    """The checks above do find what they look for."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<body style='background:#fff'><svg></svg><p style='color:#999;width:2000px'>grey</p>"
        "<img src='missing.png' alt='x'><script>console.error('no')</script></body>"
    )
    tab.show(page, 390, 900, dark=False)
    assert tab.run("document.documentElement.scrollWidth") > 390
    assert len(tab.run(NAMELESS)) == 1
    assert [entry["text"] for entry in tab.run(CONTRAST)["poor"]] == ["grey"]
    methods = {event["method"] for event in tab.events}
    assert {"Runtime.consoleAPICalled", "Log.entryAdded"} <= methods
    assert sum(event["method"] == "Network.requestWillBeSent" for event in tab.events) == 2


def test_a_table_that_is_cut_shows_that_it_scrolls(tab: Page, pages: dict[str, Path]) -> None:
    """A shade at each edge stays where it is (scroll); what covers it goes along with the table (local)."""
    tab.show(pages["passed"], 390, 844, False)
    cut = tab.run(
        "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => getComputedStyle(e).backgroundAttachment)"
    )
    assert cut and all(one.startswith("local, local, scroll, scroll") for one in cut)


def test_the_models_fit_side_by_side_on_a_desk(tab: Page, pages: dict[str, Path]) -> None:
    """With every column that there can be: score, rank, right answers, two opponents, length, academic, safety."""
    tab.show(pages["passed"], 1280, 900, True)
    tables = "[...document.querySelectorAll('#peers > .wide')]"
    assert tab.run(f"{tables}.map(e => e.querySelectorAll('thead th').length)") == [10, 4]
    assert tab.run(f"{tables}.filter(e => e.scrollWidth > e.clientWidth).length") == 0
    # In the dark the shade at an edge is darker than the card, not lighter.
    assert "rgba(0, 0, 0, 0.85)" in tab.run("getComputedStyle(document.querySelector('.wide')).backgroundImage")


SHOWN = """[...document.querySelectorAll('#talks .talk')].filter(e => e.offsetParent !== null)"""


def choose(tab: Page, name: str, label: str) -> None:
    """Click the button with these words."""
    found = f"""[...document.querySelectorAll('#talks label:has([name={name}])')]
        .find(e => e.textContent.trim() === '{label}')"""
    tab.run(f"{found}.click()")
    assert tab.run(f"{found}.querySelector('input').checked") is True


def seen(tab: Page) -> list[str]:
    """The first lines of the conversations that are shown."""
    lines: list[str] = tab.run(SHOWN + ".map(e => e.querySelector('summary').innerText.replace(/\\s+/g, ' '))")
    return lines


def test_a_person_reads_the_verdict_and_filters_conversations(tab: Page, pages: dict[str, Path]) -> None:
    tab.show(pages["passed"], 1280, 900, False)
    tab.run(OPEN)
    assert tab.run("document.querySelector('#verdict strong').innerText") == "Gate passed"
    assert tab.run("document.querySelector('#judge strong').innerText") == "The judge can be trusted with doubts"
    # Both stand on the first screen, the verdict first.
    tops = tab.run("['#verdict', '#judge strong'].map(s => document.querySelector(s).getBoundingClientRect().top)")
    assert 0 < tops[0] < tops[1] < 900

    everything = seen(tab)
    assert len(everything) == 24
    answers = SHOWN + ".map(e => [...e.querySelectorAll('.said h4')].filter(h => h.offsetParent !== null).length)"
    assert set(tab.run(answers)) <= {4, 8}  # four variants, one turn or two

    choose(tab, "category", "math")
    assert len(seen(tab)) == 3 and all("math, question" in line for line in seen(tab))
    choose(tab, "category", "all")
    assert seen(tab) == everything

    choose(tab, "variant", "dDPO")
    assert set(tab.run(answers)) <= {2, 4}  # it and the baseline
    names = SHOWN + ".flatMap(e => [...e.querySelectorAll('.said h4')].filter(h => h.offsetParent !== null))"
    assert set(tab.run(names + ".map(h => h.firstElementChild.innerText)")) == {"dSFT-1", "dDPO"}
    parts = []
    for outcome in ("won", "lost", "draw"):
        choose(tab, "outcome", outcome)
        parts.append(seen(tab))
        assert parts[-1] and all(line.count(f"dDPO {outcome}") == 1 for line in parts[-1])
    assert sorted(line for part in parts for line in part) == sorted(seen_with(tab, "all"))

    choose(tab, "variant", "all")
    choose(tab, "outcome", "lost")  # of the aligned model now
    assert seen(tab) and all("dDPO+dSFT lost" in line for line in seen(tab))
    choose(tab, "category", "math")
    assert seen(tab) == []  # it won every question
    assert tab.run("document.querySelector('#talks .count').offsetParent !== null") is True


def seen_with(tab: Page, outcome: str) -> list[str]:
    choose(tab, "outcome", outcome)
    return seen(tab)
