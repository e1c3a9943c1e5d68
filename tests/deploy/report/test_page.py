"""The page as a document: whole, well formed, closed to whatever a bundle's names may try."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from deploy.bundle.records import ConfiguredValue, Preset, SearchedPlacement, Tool
from deploy.engine.chosen import Candidate, DecisionFigures
from deploy.errors import FolderError
from deploy.images.sizes import Size
from deploy.report.facts import Facts
from deploy.report.gallery import Gallery, Scene, Variant
from deploy.report.html.markup import VOID
from deploy.report.page import page_from_facts, refuse_page_in_the_way, write_page
from tests.deploy.quantizations import int8_target
from tests.deploy.report.facts_for_tests import (
    HOSTILE,
    bench_record,
    evaluation_record,
    figures,
    full_facts,
    quantization_entry,
)
from tests.deploy.report.facts_for_tests import packaged_bundle as packaged


def gallery(name: str = "cat") -> Gallery:
    pixels = np.zeros((4, 4, 3), np.uint8)
    variants = (Variant(name="bicubic", pixels=pixels, figures="20 dB"), Variant(name=name, pixels=pixels + 255))
    scene = Scene(name=name, size=Size.square(4), variants=variants)
    return Gallery(scenes=(scene,), origin=name, scale=2.0, ways={name: name}, failures={name: name})


class Checker(HTMLParser):
    """Collects what is wrong with a document's structure."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.starts: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.starts.append((tag, found))
        if len(found) != len(attrs):
            self.problems.append(f"<{tag}> says something twice")
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]
        self.links += [value for key, value in attrs if key in ("href", "src", "aria-labelledby") and value]
        if tag == "img" and not ({"alt", "src"} <= found.keys()):
            self.problems.append("<img> without alt or src")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes another element")


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.problems == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    return checker


@pytest.mark.parametrize("facts", [full_facts(gallery=gallery()), Facts(bundle=packaged())], ids=["full", "bare"])
def test_the_page_is_well_formed_and_self_contained(facts: Facts) -> None:
    page = page_from_facts(facts)
    checker = checked(page)
    for link in checker.links:
        inside = link.removeprefix("#") in checker.ids
        assert inside or link.startswith("data:image/webp;base64,"), link
    assert page.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">')
    outside = re.sub(r"data:image/webp;base64,[\w+/=]+", "", page)
    assert "http:" not in outside
    assert "https:" not in outside
    assert "@import" not in outside
    assert "url(" not in outside


def test_the_same_facts_give_the_same_page() -> None:
    assert page_from_facts(full_facts(gallery=gallery())) == page_from_facts(full_facts(gallery=gallery()))


def hostile_figures(value: Any) -> Any:
    """The same figures with every string replaced, keys too where they are names."""
    if isinstance(value, dict):
        return {key: hostile_figures(one) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile_figures(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_names_stay_text() -> None:
    bare = HOSTILE.replace("/", "")  # a file's name has no folder
    manifest = packaged().manifest
    bundle = packaged(
        source=changed(manifest.source, file=bare),
        libraries={HOSTILE: HOSTILE},
        tool=Tool(name=HOSTILE, version=HOSTILE),
        configuration={HOSTILE: ConfiguredValue(value=HOSTILE, source="assumed")},
        rewrites=(HOSTILE,),
        placements={HOSTILE: SearchedPlacement(noise_levels=(0.5,))},
        presets={HOSTILE: Preset(equation=HOSTILE, steps=1), **manifest.presets},
        family="idm",
        quantization=quantization_entry({HOSTILE: int8_target(edges=(0.0, 0.5, 1.0))}, {HOSTILE: HOSTILE}),
        calibration_images={HOSTILE: "0" * 64},
    )
    hostile_engine = Candidate(backend=HOSTILE, precision=HOSTILE, around=HOSTILE, failure=HOSTILE)
    facts = full_facts(
        bundle=bundle,
        bench=figures(hostile_figures(bench_record()), HOSTILE),
        evaluation=figures(hostile_figures(evaluation_record()), HOSTILE),
        quantization=figures(
            {"targets": {HOSTILE: {"in_float": [HOSTILE], "layers": 1}}, "weights_sqnr_db": {HOSTILE: 1.0}}
        ),
        calibration=figures({"targets": {HOSTILE: {"form": HOSTILE, "partition_costs": [1.0, 0.5]}}}),
        engine=DecisionFigures(candidates=(hostile_engine,), chosen=hostile_engine, why=HOSTILE),
        gallery=gallery(HOSTILE),
    )
    page = page_from_facts(facts)
    plain = checked(page_from_facts(full_facts(gallery=gallery())))
    checker = checked(page)
    assert [tag for tag, _ in checker.starts].count("script") == [tag for tag, _ in plain.starts].count("script") == 1
    assert not any(key.startswith("on") for _, found in checker.starts for key in found)
    assert not any(found.get("src") == "x" for _, found in checker.starts)
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_browser_is_told_to_run_nothing_else() -> None:
    """The policy names the hashes of exactly the style and script that are in the page."""
    from base64 import b64encode
    from hashlib import sha256

    page = page_from_facts(Facts(bundle=packaged()))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{kind}-src &#x27;sha256-{digest}&#x27;" in policy[1]
    assert policy[1].startswith("default-src &#x27;none&#x27;; img-src data:;")
    assert " style=" not in page


def test_a_page_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    refuse_page_in_the_way(path, force=False)
    write_page("ä", path)
    assert path.read_bytes() == "ä".encode()
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]
    with pytest.raises(FolderError, match=r"page\.html: it exists already\. Use --force"):
        refuse_page_in_the_way(path, force=False)
    refuse_page_in_the_way(path, force=True)
    with pytest.raises(FolderError, match="there is a folder of that name"):
        refuse_page_in_the_way(tmp_path, force=True)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"writing the page to .*Choose another place"):
        write_page("x", tmp_path / "file" / "page.html")
