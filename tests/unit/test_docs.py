"""What the pages show is pasted by readers: every recipe loads, every command parses, every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from zephyr.cli import parser
from zephyr.recipe import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(page: Path) -> list[str]:
    """Fenced blocks of a page, without their fences."""
    return re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def recipes(page: Path) -> list[str]:
    """Recipes that a page shows, whole or as what `cat > file <<'END'` writes."""
    found = [text for block in blocks(page) for text in re.findall(r"<<'END'\n(.*?)^END$", block, re.M | re.S)]
    return [text for text in [*blocks(page), *found] if re.match(r"(extends: .*\n)?name: ", text)]


def commands(page: Path) -> list[str]:
    """`zephyr …` lines of a page's blocks, continued lines joined, without comments and what follows a pipe or &."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := re.match(r"(?:[\w./]*/|[A-Z_]+=\S+ )*zephyr (.*)", line))]
    return [re.split(r"\s(?:#|\||&)", f"{line} ")[0] for line in found if "…" not in line and "[" not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_and_commands_of_a_page(page: Path) -> None:
    for recipe in recipes(page):
        load(recipe)
    for command in commands(page):
        if not command.startswith("run  recipe"):  # the terminal's output, not a command
            assert parser().parse_args(shlex.split(command)).verb
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_recipe_of_its_own_says_why_safety_does_not_decide(page: Path) -> None:
    """Its data teach no refusal: a reader's first run would fail at the gate."""
    own = [recipe for recipe in recipes(page) if "extends: " not in recipe]
    assert [recipe for recipe in own if "waived: " not in recipe] == []


def test_the_pages_have_recipes_and_commands() -> None:
    assert sum(len(recipes(page)) for page in PAGES) >= 4
    assert sum(len(commands(page)) for page in PAGES) >= 15


def test_the_tree_names_every_place() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    package = ROOT / "src" / "zephyr"
    named = [path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert [name for name in named if not name.startswith("__") and name not in text] == []
