"""The console's page as files: whole, small, and without anything that the browser would have to get from elsewhere."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "services" / "console" / "page"
LARGEST = 200_000  # bytes
FILES = [file for file in PAGE.rglob("*") if file.is_file()]
SCRIPTS = sorted(PAGE.glob("*.js"))
NAMESPACE = "http://www.w3.org/2000/svg"
IMPORTED = re.compile(r'^import [^"\n]*"(\./[^"]+)"', re.MULTILINE)


def test_it_weighs_less_than_what_it_may() -> None:
    """All files together, as they are sent."""
    assert sum(file.stat().st_size for file in FILES if file.name != "LICENSE") <= LARGEST


def test_every_module_that_is_imported_is_there_and_every_one_there_is_imported() -> None:
    """A module is reached from the page, and leads to modules that exist, with the names that they export."""
    imported = {name for script in SCRIPTS for name in IMPORTED.findall(script.read_text())}
    loaded = set(re.findall(r'src="([^"]+)"', (PAGE / "index.html").read_text()))
    assert {name.removeprefix("./") for name in imported} | loaded == {script.name for script in SCRIPTS}


def test_names_that_are_imported_are_exported() -> None:
    """A browser finds out only when it runs the module; this does before."""
    for script in SCRIPTS:
        for names, module in re.findall(r'^import \{([^}]+)\} from "\./([^"]+)"', script.read_text(), re.MULTILINE):
            other = (PAGE / module).read_text()
            for name in (name.strip() for name in names.split(",")):
                assert re.search(rf"^export (?:async )?(?:const|function|class|let) {name}\b", other, re.MULTILINE), (
                    f"{script.name} imports {name}, which {module} does not export"
                )


def test_nothing_is_asked_of_another_machine_and_nothing_is_inline() -> None:
    """What the content security policy would refuse is not there: no other address, no style or script in the page."""
    for file in [*SCRIPTS, PAGE / "index.html", PAGE / "style.css", PAGE / "icon.svg"]:
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text()))
        assert {found for found in addresses if not found.startswith((NAMESPACE, "http://127.0.0.1"))} == set()
    page = (PAGE / "index.html").read_text()
    assert re.findall(r"\sstyle=|<style|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", page) == []


def test_no_markup_is_made_of_text() -> None:
    """What events say is shown as text: there is no way from a string to an element."""
    barred = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")
    assert {script.name for script in SCRIPTS if barred.search(script.read_text())} == set()


def test_what_others_wrote_comes_with_its_licence() -> None:
    """Each vendored folder holds the licence of what is in it."""
    folders = [folder for folder in (PAGE / "vendor").iterdir() if folder.is_dir()]
    assert folders
    for folder in folders:
        assert "Permission is hereby granted" in (folder / "LICENSE").read_text()
