"""One step of the sampler: the only place of its arithmetic, in NumPy and as the graph that a device runs.

From the state x and the predicted noise y comes the estimate of the picture e = (x - sigma y) / noise_level, kept
within [-1, 1] where the row says so, and from the estimates the next state k x + s0 e + s1 e(of the step before) + ...
+ noise. A plan that looks back at noise has w1 n(of the step before) + ... in place of earlier estimates, with n =
(x - noise_level e) / sigma. In numbers: noise level 0.5 and sigma 0.5 make of x = 1, y = 0.5 the estimate 1.5, kept at
1; with k = 0.5 and s0 = 0.5 the next state is 0.5 + 0.5 = 1. All arithmetic is in the type of the state (float32 in
production); coefficients are float64 until they meet it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.errors import OutputError
from deploy.sampling.plan import Plan, PlanRow
from engines.contract import Step
from engines.onnx_files.wire_format import bytes_field, number_field, text_field

Array = NDArray[np.floating[Any]]

FLOAT32 = 1
"""TensorProto.FLOAT."""

NO_BOUND = float(np.finfo(np.float32).max)


def estimate_picture(row: PlanRow, x: Array, predicted: Array, *, out: Array, scratch: Array) -> None:
    """`out` holds (x - sigma*predicted)/noise_level; values that are not finite pass without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(predicted, -row.sigma / row.noise_level, out=out)
        np.multiply(x, 1.0 / row.noise_level, out=scratch)
        out += scratch


def noise_in_state(row: PlanRow, x: Array, estimate: Array, *, out: Array, scratch: Array) -> None:
    """`out` holds (x - noise_level*estimate)/sigma: the noise that is left beside the estimate."""
    np.multiply(x, 1.0 / row.sigma, out=out)
    np.multiply(estimate, -row.noise_level / row.sigma, out=scratch)
    out += scratch


def advance(
    row: PlanRow,
    x: Array,
    estimates: Sequence[Array],
    noise: Array | None,
    scratch: Array,
    earlier_noises: Sequence[Array] = (),
) -> None:
    """`x` holds the state after the step; `estimates` and `earlier_noises` are newest first."""
    x *= x.dtype.type(row.x)
    terms = [*zip(row.x0, estimates, strict=False), *zip(row.eps, earlier_noises, strict=False)]
    for factor, value in terms:  # later steps may look further back than this one
        np.multiply(value, factor, out=scratch)
        x += scratch
    if noise is not None:
        np.multiply(noise, row.noise, out=scratch)
        x += scratch


def check_finite(estimate: Array, predicted: Array, row: PlanRow, step_index: int, steps: int) -> None:
    """Nothing happens if the estimate is finite; else the message names the step, the values and the cure."""
    # A NaN or an infinity anywhere makes the smallest or the largest value one: two passes, no array of flags.
    with np.errstate(invalid="ignore"):
        if np.isfinite(estimate.min()) and np.isfinite(estimate.max()):
            return
    finite = predicted[np.isfinite(predicted)]
    values = f"from {finite.min():.3g} to {finite.max():.3g}" if finite.size else "absent"
    where = f"Step {step_index + 1} of {steps} (noise level {row.noise_level:.4g}, timestep {row.timestep})"
    raise OutputError(
        f"{where}: of {predicted.size} values that the network predicted {predicted.size - finite.size} are not finite "
        f"and the others {values}, which gives no picture; use a wider precision (fp32) or another engine, and check "
        "the model with `idm-deploy verify`."
    )


def steps_on_device(plan: Plan, noise: Callable[[int], Array], begun: Callable[[int], None]) -> Iterator[Step]:
    """The plan's steps for an engine that keeps the state, each made when its turn comes: `begun(step_index)` is called
    then. `noise(step_index)` is asked only where the plan adds some.
    """
    for index, row in enumerate(plan.rows):
        begun(index)
        # As many earlier values as there are by now, so that a later step can look as far back as it needs.
        past = min(plan.earlier_noises, index)
        depth = 1 if plan.earlier_noises else min(plan.history, index + 1)
        shares = (*row.x0[:depth], *[0.0] * (depth - len(row.x0)))
        bound = 1.0 if row.clip else NO_BOUND
        numbers = {"p": 1.0 / row.noise_level, "q": -row.sigma / row.noise_level, "low": -bound, "high": bound}
        numbers |= {"k": row.x} | {f"s{at}": share for at, share in enumerate(shares)}
        if plan.earlier_noises:
            weights = (*row.eps, *[0.0] * (past - len(row.eps)))
            numbers |= {"u": 1.0 / row.sigma, "v": -row.noise_level / row.sigma}
            numbers |= {f"w{at}": weight for at, weight in enumerate(weights, start=1)}
        given: dict[str, Any] = {name: np.asarray(value, np.float32) for name, value in numbers.items()}
        if row.noise:
            given["f"] = noise(index) * np.float32(row.noise)
        update = update_graph(depth, fresh="f" in given, noises=past if plan.earlier_noises else None)
        yield Step(feeds=row.feeds, update=update, given=given, earlier=past or depth - 1)


@cache
def update_graph(estimates: int, *, fresh: bool, noises: int | None = None) -> bytes:
    """An ONNX model of one step: `next` and `kept`, the estimate, from x, y, the estimates e1.. before and the numbers.

    noises: of so many earlier steps the noise is what is kept and given as e1.., rather than the estimates.
    Only its last node writes `next`, after every node that reads x: both may share their memory.
    """
    shares = [f"s{index}" for index in range(estimates)]
    also = () if noises is None else ("u", "v")
    older = [f"e{index}" for index in range(1, estimates if noises is None else noises + 1)]
    if noises is not None:
        shares += [f"w{index}" for index in range(1, noises + 1)]
    arrays = ["x", "y", *older, *(["f"] if fresh else [])]
    nodes = [("Mul", ["y", "q"], "qy"), ("Mul", ["x", "p"], "px"), ("Add", ["qy", "px"], "raw")]
    estimate = "kept" if noises is None else "estimate"
    nodes.append(("Clip", ["raw", "low", "high"], estimate))
    if noises is not None:
        nodes += [("Mul", ["x", "u"], "ux"), ("Mul", [estimate, "v"], "ve"), ("Add", ["ux", "ve"], "kept")]
    nodes.append(("Mul", ["x", "k"], "sum"))
    terms = []
    for value, share in zip([estimate, *older], shares, strict=True):
        nodes.append(("Mul", [value, share], f"{share}e"))
        terms.append(f"{share}e")
    terms += ["f"] if fresh else []
    total = "sum"
    for number, term in enumerate(terms):
        made = "next" if number == len(terms) - 1 else f"sum{number}"
        nodes.append(("Add", [total, term], made))
        total = made
    body = b"".join(bytes_field(1, _node(*node)) for node in nodes) + text_field(2, "update")
    body += b"".join(bytes_field(11, _value(name, 4)) for name in arrays)
    body += b"".join(bytes_field(11, _value(name, 0)) for name in ("p", "q", "low", "high", "k", *also, *shares))
    body += b"".join(bytes_field(12, _value(name, 4)) for name in ("next", "kept"))
    opset = bytes_field(8, number_field(2, 17))
    return number_field(1, 8) + bytes_field(7, body) + opset


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(text_field(1, name) for name in inputs) + text_field(2, output) + text_field(4, kind)


def _value(name: str, axes: int) -> bytes:
    """A float32 input or output with so many axes of any size."""
    shape = b"".join(bytes_field(1, text_field(2, f"axis{index}")) for index in range(axes))
    tensor = number_field(1, FLOAT32) + bytes_field(2, shape)
    return text_field(1, name) + bytes_field(2, bytes_field(1, tensor))
