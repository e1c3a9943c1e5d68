"""The page as one file: everything in it, nothing fetched."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import deploy
from deploy.errors import FolderError
from deploy.report.chapters.comparison import pictures_section
from deploy.report.chapters.int8 import int8_section
from deploy.report.chapters.making import contents_section, engine_section, rewriting_section
from deploy.report.chapters.model import head_of_page, model_section, title_of
from deploy.report.chapters.quality import quality_section
from deploy.report.chapters.sampling import sampling_section
from deploy.report.chapters.speed import speed_section
from deploy.report.chapters.unmeasured import unmeasured_section
from deploy.report.facts import Facts
from deploy.report.html.markup import Markup, joined, raw, tag
from deploy.report.html.parts import Section, code
from deploy.report.looks import behaviour, look
from engines.new_files import new_file, new_folder


def sections(facts: Facts) -> Iterator[Section]:
    """The chapters that there is something to say in, what matters most to most readers first."""
    chapters = (
        pictures_section(facts.gallery) if facts.gallery and facts.gallery.scenes else None,
        quality_section(facts),
        speed_section(facts),
        engine_section(facts),
        int8_section(facts),
        sampling_section(facts),
        model_section(facts),
        rewriting_section(facts),
        contents_section(facts),
        unmeasured_section(facts),
    )
    yield from (section for section in chapters if section is not None)


def page_from_facts(facts: Facts) -> str:
    """The whole document. The same facts give the same text."""
    style, script = look("page.css"), behaviour("page.js")
    chapters = list(sections(facts))
    links = [tag("a", chapter.title, href=f"#{chapter.anchor}") for chapter in chapters]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{title_of(facts)} · idm-deploy"),
        raw("style", style),
    )
    body = tag(
        "body",
        head_of_page(facts),
        tag("nav", links, aria_label="Chapters"),
        tag("main", [chapter.html() for chapter in chapters]),
        _footer(facts),
        raw("script", script),
    )
    return f"<!DOCTYPE html>\n{joined([tag('html', head, body, lang='en')])}\n"


def write_page(page: str, path: Path) -> None:
    """The page is at `path`, complete or not at all."""
    try:
        with new_folder(path.parent), new_file(path) as file:
            file.write(page.encode("utf-8"))
    except OSError as error:
        raise FolderError(f"writing the page to {path}: {error.strerror}. Choose another place with -o.") from error


def refuse_page_in_the_way(path: Path, *, force: bool) -> None:
    """Nothing known stands in the way of writing to `path`; to be asked before the work."""
    if path.is_dir():
        raise FolderError(f"writing the page to {path}: there is a folder of that name. Name a file with -o.")
    if path.exists() and not force:
        raise FolderError(
            f"writing the page to {path}: it exists already. Use --force to replace it, or -o another name."
        )


def _policy(style: str, script: str) -> str:
    """The browser runs this tool's own style and script and no others, and fetches nothing, whatever stands here."""
    return f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode('utf-8')).digest()).decode('ascii')}'"


def _footer(facts: Facts) -> Markup:
    command = code(f"idm-deploy report {facts.bundle.path.resolve().name}")
    return tag(
        "footer",
        tag("p", "Made by ", command, f", idm-deploy {deploy.__version__}. It opens from disk and fetches nothing."),
    )
