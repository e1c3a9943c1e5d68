"""Whether int8 is safe to use, in plain words, by what the bundle's own record of its quantization holds."""

from dataclasses import dataclass

from deploy.bundle.quantization import HeldOut
from deploy.report.facts import TARGETS, Facts
from deploy.report.html.markup import Markup, tag
from deploy.report.html.wording import count_of, listing, signed

SAFE = "int8 is safe here"
COSTLY = "int8 costs more than was allowed"
NEAR = "int8 stays near float; what it costs against originals is not known"
UNMEASURED = "what int8 costs was not measured"

HALF_DIGIT_OF_LOSS, HALF_DIGIT_OF_FIDELITY = 5e-4, 5e-2
"""dB within which a figure still meets its limit, as it is shown: 0.050 is within 0.05."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """On one target: SAFE, COSTLY, NEAR or UNMEASURED, and the figures that say so. lost: dB of PSNR, None: unknown."""

    target: str
    word: str
    figures: str
    lost: float | None = None

    def html(self) -> Markup:
        """The verdict as a line of a list."""
        return tag("li", tag("b", f"{self.target}: {self.word}. "), self.figures)


def verdicts(facts: Facts) -> list[Verdict]:
    """The verdict on each target in the bundle."""
    quantization = facts.bundle.manifest.quantization
    if quantization is None:
        return []
    allowed, least = quantization.max_psnr_drop, quantization.min_fidelity
    return [_verdict(TARGETS.get(name, name), entry.held_out, allowed, least) for name, entry in facts.targets.items()]


def _verdict(target: str, measured: HeldOut | None, allowed: float | None, least: float | None) -> Verdict:
    if measured is None:
        return Verdict(target=target, word=UNMEASURED, figures="Quantize again to have it measured.")
    lost, mean, worst = measured.psnr_drop, measured.fidelity_db, measured.worst_db
    beyond = lost is not None and allowed is not None and lost > allowed + HALF_DIGIT_OF_LOSS
    apart = least is not None and worst < least - HALF_DIGIT_OF_FIDELITY
    word = COSTLY if beyond or apart else NEAR if lost is None or allowed is None else SAFE
    sentences = []
    if lost is not None:
        limit = _limit("at most a loss of", allowed)
        look = measured.ssimulacra2_drop
        looks = "" if look is None else f", SSIMULACRA2 by {signed(-look, 2)}"
        sentences.append(f"PSNR against the originals changes by {signed(-lost, 3)} dB{limit}{looks}")
    levels = 255 * 10 ** (-mean / 20)  # PSNR is 20 log10(255 / root of the mean square difference)
    sentences.append(
        f"pictures are {mean:.1f} dB from those in float, a usual difference of {levels:.2g} of 255 levels"
    )
    sentences.append(f"the worst in plain sampling is {worst:.1f} dB from float{_limit('at least', least)}")
    text = listing(sentences) + _where(measured) + "."
    return Verdict(target=target, word=word, figures=text[0].upper() + text[1:], lost=lost)


def _limit(words: str, limit: float | None) -> str:
    return "" if limit is None else f" ({words} {limit:g} dB was asked)"


def _where(measured: HeldOut) -> str:
    many = "" if measured.photographs is None else f"{measured.photographs} "
    kind, of = ("picture", "") if measured.psnr_drop is None else ("crop", f" of {many}held-out photographs")
    return f". Measured on {count_of(measured.pictures, kind)}{of}, preset {measured.preset}"
