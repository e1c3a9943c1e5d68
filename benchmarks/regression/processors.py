"""Kinds of processors whose ratios may be compared: how fast bf16 and int8 are beside float32 is the processor's doing.

A step of the published IDM, for example, two threads: on an AMD Zen 5, OpenVINO takes 234 ms in float32 and 103 in
bf16; on an Intel Xeon that has VNNI but no AMX, 320 and 484, for bf16 is emulated there.
"""

from dataclasses import dataclass

from engines.machine.host import Cpu, find_cpu

BF16, VNNI = "avx512-bf16", "avx512-vnni"

KINDS = {
    BF16: "AMD with bfloat16 arithmetic (Zen 4 and later)",
    VNNI: "AVX-512 with VNNI, without bfloat16 arithmetic",
}
"""Kinds that figures were measured on. The bars of `avx512-vnni` are the ratios seen on that Xeon (fastest of five, a
noisy machine) less the tolerance of their figure; whole pictures were not measured there, and have none."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """This machine's, and its kind; None for one that no figure was measured on."""

    model: str
    kind: str | None

    def __str__(self) -> str:
        if self.kind is None:
            return f"{self.model}: no figure was measured on such a processor, so what is found is held to nothing"
        return f"{self.model}, of the kind {self.kind}: {KINDS[self.kind]}"


def find_processor() -> Processor:
    """What this machine has."""
    cpu = find_cpu()
    return Processor(model=cpu.model, kind=kind_of(cpu))


def kind_of(cpu: Cpu) -> str | None:
    """The kind by the features that decide how fast bf16 and int8 are; None for AMX, older and other processors."""
    has = {name for name, present in cpu.features.items() if present}
    if not {"AVX-512", "VNNI"} <= has or "AMX" in has:
        return None
    if "BF16" in has:  # Intel's of this kind compute bf16 at half the rate; nobody measured there
        return BF16 if cpu.model.startswith("AMD") else None
    return VNNI
