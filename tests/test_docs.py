"""The reference page of flags names every flag and command and no other; links between pages lead somewhere."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from sweeps.cli.main import console
from sweeps import arc, arena, own, reasoning, rl, strategyqa, style
from sweeps.cli.flags import SHORT, Flags, Resources
from sweeps.spec.error_policy import MEANING, RULES, Status

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = (ROOT / "docs/reference/flags.md").read_text(encoding="utf-8")
SCRIPT_PART, COMMAND_PART = REFERENCE.split("## The commands\n")
FLAG = r"`(--[a-z][\w.-]*)"
IN_A_ROW = re.compile(rf"^\| {FLAG}(?:`, {FLAG})?", re.MULTILINE)


def _as_flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def flags_of_a_script() -> set[str]:
    found = {_as_flag(field.name) for field in dataclasses.fields(Flags)} - {"--resources"}
    return found | {f"--resources.{field.name}" for field in dataclasses.fields(Resources)}


def named_in_rows(text: str) -> set[str]:
    """The flags that have a row of their own in a table."""
    return {name for row in IN_A_ROW.findall(text) for name in row if name and not name.startswith("--no-")}


def helped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setenv("COLUMNS", "400")  # so that no sentence is broken before a flag
    monkeypatch.setattr(sys, "argv", ["espalier", *words, "--help"])
    with pytest.raises(SystemExit):
        console()
    return capsys.readouterr().out


def options(text: str) -> set[str]:
    """Return the flags of a command's help without the task's fields and the opposites of switches."""
    found = re.findall(r"^\W*(--[a-z][\w.-]*)", text, re.MULTILINE)
    return {name for name in found if not name.startswith(("--task.", "--no-"))}


def test_every_flag_of_a_script_has_a_row_and_no_row_has_another() -> None:
    assert named_in_rows(SCRIPT_PART) == flags_of_a_script()


def test_every_command_has_a_section_with_just_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = re.search(r"\{([\w,]+)\}", helped(monkeypatch, capsys))
    assert commands is not None
    sections = re.split(r"^### `espalier (\w+).*$", COMMAND_PART, flags=re.MULTILINE)
    page = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert page.keys() == {*commands.group(1).split(",")}
    for name, section in page.items():
        assert named_in_rows(section) == options(helped(monkeypatch, capsys, name)), name


def test_no_sentence_names_a_flag_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = flags_of_a_script() | named_in_rows(COMMAND_PART)  # which the test above compares with the commands
    switches = {_as_flag(one.name) for one in dataclasses.fields(Flags) if isinstance(one.default, bool)}
    known |= {f"--no-{name.removeprefix('--')}" for name in switches} | {"--help", *SHORT, "--task.FIELD"}
    known |= {f"--task.{name}" for fields in task_fields().values() for name in fields}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", REFERENCE)) <= known


def test_every_field_of_a_scripts_task_is_listed() -> None:
    for script, fields in task_fields().items():
        row = next(line for line in SCRIPT_PART.splitlines() if line.startswith(f"| `{script}.py` "))
        assert {name.replace("no-", "") for name in re.findall(r"`([a-z-]+)`", row.split("|")[2])} >= fields, script


def task_fields() -> dict[str, set[str]]:
    found = {}
    for module in (arc, arena, own, reasoning, rl, strategyqa, style):
        name = module.__name__.removeprefix("sweeps.")
        sweep = module.SWEEP if hasattr(module.SWEEP, "pairs") else module.SWEEP.first  # of a chain
        task = sweep.pairs[0].task
        flags = [task.flag_names.get(field.name, field.name) for field in dataclasses.fields(task)]
        found[name] = {flag.replace("_", "-") for flag in flags}
    return found


def _anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of headings."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{link}: there is no {target}"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target.read_text(encoding="utf-8")), f"{link}: no such heading"


def test_the_tree_names_every_module_and_no_other() -> None:
    named = set(re.findall(r"\w+\.py", (ROOT / "docs/tree.md").read_text()))
    folders = ("sweeps", "trainables", "search_spaces", "cluster", "tests")
    there = {path.name for folder in folders for path in (ROOT / folder).rglob("*.py")}
    modules = {p.name for folder in folders[:4] for p in (ROOT / folder).rglob("*.py") if p.name != "__init__.py"}
    assert modules - named == set()
    assert named - there == set()


def test_the_page_of_errors_has_the_tables_of_the_policy() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    statuses = [[str(status.value), meaning] for status, meaning in MEANING.items()]
    rules = [[one.what, one.ends, one.then, ", ".join(str(status.value) for status in one.status)] for one in RULES]
    assert rows == [["Status", "Meaning"], *statuses, rows[1 + len(statuses)], *rules]
    assert {*MEANING} == {*Status}
