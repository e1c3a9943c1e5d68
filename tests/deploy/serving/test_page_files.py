"""What the page is made of: its own files, all of them packaged, nothing that its policy forbids."""

import re
import tomllib
from pathlib import Path, PurePosixPath

import deploy
from deploy.serving.page import POLICY, SCRIPTS, page_files

PACKAGE = Path(deploy.__file__).parent
HTML, STYLE, SCRIPT = (page_files()[path].content.decode() for path in ("/", "/page.css", "/page.js"))


def test_the_page_holds_nothing_that_its_policy_forbids() -> None:
    assert "'unsafe-" not in POLICY and "default-src 'none'" in POLICY
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=\"page\.js\")", HTML)
    assert not re.search(r"https?://|@import|url\(", HTML + STYLE)
    # A name of a file is only ever text, and what the server says too.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", SCRIPT)


def test_each_name_that_the_script_looks_up_stands_in_the_page() -> None:
    names = set(re.findall(r'id="([\w-]+)"', HTML))
    asked = set(re.findall(r'\bby\("([\w-]+)"\)', SCRIPT))
    assert asked and asked <= names
    labelled = re.findall(r'(?:for|aria-controls|aria-describedby|aria-labelledby)="([\w-]+)"', HTML)
    assert set(labelled) <= names


def test_every_file_of_the_page_is_packaged() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["deploy"]
    parts = [path.relative_to(PACKAGE) for path in (PACKAGE / "serving" / "page").iterdir() if path.is_file()]
    data = [path for path in parts if path.suffix != ".py"]
    data += [path.relative_to(PACKAGE) for path in (PACKAGE / "report").glob("*.[cj]s*")]
    assert not [path for path in data if not any(PurePosixPath(path).match(pattern) for pattern in patterns)]
    assert {path.name for path in data if path.parent.name == "page" and path.suffix == ".js"} == set(SCRIPTS)
