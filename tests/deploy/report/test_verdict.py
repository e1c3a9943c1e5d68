"""What the page concludes about int8 from figures that a bundle's record may hold."""

from typing import Any

import pytest
from msgspec.structs import replace as changed

from deploy.bundle.quantization import HeldOut
from deploy.report.chapters.model import head_of_page
from deploy.report.chapters.verdict import COSTLY, NEAR, SAFE, UNMEASURED, Verdict, verdicts
from deploy.report.facts import Facts
from tests.deploy.quantizations import HELD_OUT, int8_target
from tests.deploy.report.facts_for_tests import packaged_bundle, quantization_entry

FIGURES = changed(HELD_OUT, fidelity_db=48.13)


def facts_of(held_out: HeldOut | None, **settings: float) -> Facts:
    """A bundle whose only target lost that much."""
    entry = quantization_entry({"ort": int8_target(held_out=held_out)}, settings)
    return Facts(bundle=packaged_bundle(quantization=entry))


def verdict(held_out: HeldOut | None, **settings: float) -> Verdict:
    (found,) = verdicts(facts_of(held_out, **settings))
    return found


@pytest.mark.parametrize(
    ("held_out", "settings", "word"),
    [
        (FIGURES, {"max_psnr_drop": 0.05}, SAFE),
        (changed(FIGURES, psnr_drop=0.0504), {"max_psnr_drop": 0.05}, SAFE),  # 0.050 as it is shown
        (changed(FIGURES, psnr_drop=-0.01), {"max_psnr_drop": 0.05}, SAFE),
        (changed(FIGURES, psnr_drop=0.0506), {"max_psnr_drop": 0.05}, COSTLY),
        (FIGURES, {"max_psnr_drop": 0.05, "min_fidelity": 44.0}, SAFE),
        (FIGURES, {"max_psnr_drop": 0.05, "min_fidelity": 45.0}, COSTLY),
        (FIGURES, {}, NEAR),
        (changed(FIGURES, psnr_drop=None), {"max_psnr_drop": 0.05}, NEAR),
        (None, {"max_psnr_drop": 0.05}, UNMEASURED),
    ],
)
def test_the_verdict_follows_from_the_record(held_out: Any, settings: dict[str, float], word: str) -> None:
    assert verdict(held_out, **settings).word == word


def test_the_verdict_says_its_figures() -> None:
    """48.13 dB is a root mean square of 255 / 255 levels."""
    assert verdict(FIGURES, max_psnr_drop=0.05, min_fidelity=40).figures == (
        "PSNR against the originals changes by −0.031 dB (at most a loss of 0.05 dB was asked), SSIMULACRA2 by −0.12, "
        "pictures are 48.1 dB from those in float, a usual difference of 1 of 255 levels and the worst in plain "
        "sampling is 44.0 dB from float (at least 40 dB was asked). Measured on 6 crops of 5 held-out photographs, "
        "preset balanced."
    )
    before = changed(FIGURES, photographs=None, ssimulacra2_drop=None)  # as earlier versions noted it
    assert "6 crops of held-out photographs" in verdict(before).figures and "SSIMU" not in verdict(before).figures
    assert "on 6 pictures, preset" in verdict(changed(FIGURES, psnr_drop=None)).figures


@pytest.mark.parametrize(
    ("held_out", "told"),
    [(FIGURES, "safe, −0.03 dB"), (changed(FIGURES, psnr_drop=0.2), "costs, −0.20 dB"), (None, "not known")],
)
def test_the_head_of_the_page_has_the_verdict(held_out: Any, told: str) -> None:
    assert told in str(head_of_page(facts_of(held_out, max_psnr_drop=0.05)))
