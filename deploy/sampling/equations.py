"""Reduced-step denoising equations, each as the coefficients of one linear update.

Every step of every sampler here is

    x_next = a*x + b[0]*x0 + b[1]*x0_previous + ... + c[0]*eps_previous + ... + d*noise,    x0 = (x - sigma*eps)/alpha,

with eps the noise that the network predicts, alpha = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar) of the
current level, and x0 optionally clipped to the range of pictures before it is used. Where a paper writes
the update with eps, eps = (x - alpha*x0)/sigma of the clipped x0 stands for it, so that x and x0 stay consistent; the
same is kept of earlier steps where an equation looks back at their noise rather than at their x0.

The half log-SNR lambda = log(alpha/sigma) is the time of the multistep equations; h is a stride of it.
A new equation is one function and one line of EQUATIONS.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from deploy.errors import PlanError
from deploy.sampling.placement import Point


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Factors of one update: of x, of x0 and its predecessors, of the eps before (newest first), and of fresh noise."""

    x: float
    x0: tuple[float, ...]
    noise: float = 0.0
    eps: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step to make: from levels[-1] to `next`, after evaluations at the levels[:-1].

    `next` is levels[-1] itself where the step before is only made again, better (`Equation.corrects_start`).
    """

    levels: tuple[Point, ...]
    next: Point
    steps_after: int  # how many more steps will follow this one
    eta: float  # share of the ancestral noise
    beta: float  # 1 - alpha^2/alpha_next^2: the variance that the forward process adds between the two levels
    mean_square: float | None = None  # of the noise that the network predicts at this level, where it was measured

    @property
    def now(self) -> Point:
        """The level of the state before the step."""
        return self.levels[-1]

    @property
    def stride(self) -> float:
        """h, the stride in half log-SNR that the step makes."""
        return (self.next.log_snr - self.now.log_snr) / 2


def ddpm(step: Step) -> Coefficients:
    """Ancestral sampling: the mean and the variance of q(x_next | x, x0) (Ho et al. 2020, equations 6 and 7).

    On neighbouring timesteps these are the tables of the official code; on a coarser grid the forward process
    has the betas of the coarse steps.
    """
    now, after = step.now, step.next
    return Coefficients(
        x=(now.alpha / after.alpha) * after.sigma**2 / now.sigma**2,
        x0=(after.alpha * step.beta / now.sigma**2,),
        noise=_ancestral_deviation(step),
    )


def ddim(step: Step) -> Coefficients:
    """The non-Markovian step with the same marginals and `eta` times the ancestral noise (Song et al. 2021, 12 and 16).

    x_next = alpha_next*x0 + sqrt(sigma_next^2 - s^2)*eps + s*noise, s = eta*ancestral deviation.
    """
    now, after = step.now, step.next
    deviation = step.eta * _ancestral_deviation(step)
    of_eps = math.sqrt(max(after.sigma**2 - deviation**2, 0.0))
    return Coefficients(x=of_eps / now.sigma, x0=(after.alpha - of_eps * now.alpha / now.sigma,), noise=deviation)


def pndm(step: Step) -> Coefficients:
    """Pseudo linear multistep, PLMS (Liu et al. 2022, "PNDM", equations 11 to 13): Adams-Bashforth in the noise.

    DDIM's step with eps' = the weighted sum of up to four predicted noises. At the start, where there are none yet,
    the second evaluation is used twice: first to make the first step again with the mean of both its ends' noise
    (x + B*(eps - eps_first)/2, with B the factor of eps in DDIM's step), which no later step looks back at.
    """
    now = step.now
    if step.next == now:
        half = _factor_of_eps(step.levels[-2], now) / 2
        return Coefficients(x=1.0 + half / now.sigma, x0=(-half * now.alpha / now.sigma,), eps=(-half,))
    # Newest first: which of the earlier evaluations count.
    counts = [level != after for level, after in zip(step.levels[:-1], step.levels[1:], strict=True)][::-1]
    weights = ADAMS_BASHFORTH[min(sum(counts), 3)]
    factor = _factor_of_eps(now, step.next)
    earlier = iter(weights[1:])
    eps = [factor * next(earlier, 0.0) if counted else 0.0 for counted in counts]
    while eps and eps[-1] == 0.0:
        eps.pop()
    own = factor * weights[0]
    return Coefficients(
        x=step.next.alpha / now.alpha + own / now.sigma, x0=(-own * now.alpha / now.sigma,), eps=tuple(eps)
    )


ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the newest value and of those before it, by how many there are before it."""


def analytic_dpm(step: Step) -> Coefficients:
    """DDIM's mean with the variance that is optimal for this network (Bao et al. 2022, "Analytic-DPM", equation 8).

    s^2 + (sigma*alpha_next/alpha - sqrt(sigma_next^2 - s^2))^2 * (1 - E[eps^2]), s = eta*ancestral deviation: what
    `ddim` adds, and what the posterior of x0 is wide, of which the mean square of the predicted noise tells. Onto the
    clean picture leads the mean alone.
    """
    if step.mean_square is None:
        raise PlanError(
            "analytic-dpm needs the mean square of the noise that the network predicts at each level, which is not "
            "measured yet: run `idm-deploy schedule --equation analytic-dpm`, which stores it in the bundle."
        )
    now, after = step.now, step.next
    mean = ddim(step)
    if after.sigma == 0:
        return mean
    of_eps = math.sqrt(max(after.sigma**2 - mean.noise**2, 0.0))
    width = (now.sigma * after.alpha / now.alpha - of_eps) ** 2 * (1 - min(max(step.mean_square, 0.0), 1.0))
    return Coefficients(x=mean.x, x0=mean.x0, noise=math.sqrt(mean.noise**2 + width))


def dpmpp_2m(step: Step) -> Coefficients:
    """DPM-Solver++(2M): x0 extrapolated linearly over lambda (Lu et al. 2022, "DPM-Solver++", algorithm 2).

    x_next = (sigma_next/sigma)*x + alpha_next*(1 - e^-h)*((1 + 1/2r)*x0 - (1/2r)*x0_previous), r = h_previous/h.
    The first step has no past and the last, whose h is infinite, nothing to extrapolate to: both are DDIM's.
    """
    if _order(step, 2) == 1:
        return _first_order(step)
    h = step.stride
    h_previous = (step.now.log_snr - step.levels[-2].log_snr) / 2
    weight = step.next.alpha * -math.expm1(-h)
    past = h / (2 * h_previous)
    return Coefficients(x=step.next.sigma / step.now.sigma, x0=(weight * (1 + past), -weight * past))


def dpmpp_3m(step: Step) -> Coefficients:
    """Third-order multistep data prediction: x0 as a parabola over lambda, integrated exactly.

    The exact solution is x_next = (sigma_next/sigma)*x + alpha_next * integral over s = 0..h of e^(s-h)*x0(s) ds
    (DPM-Solver++, proposition 4.1). With x0(s) the parabola through the last three estimates, in Newton's form
    x0 + s*[01] + s*(s + h1)*[012], the integral is x0*I0 + [01]*I1 + [012]*(I2 + h1*I1), where
    I0 = 1 - e^-h, I1 = h - I0, I2 = h^2 - 2*I1. This is UniP-3 (Zhao et al. 2023, equation 9, data prediction).
    """
    order = _order(step, 3)
    if order < 3:
        return _first_order(step) if order == 1 else dpmpp_2m(step)
    h = step.stride
    h1 = (step.now.log_snr - step.levels[-2].log_snr) / 2
    h2 = (step.levels[-2].log_snr - step.levels[-3].log_snr) / 2
    integral0 = -math.expm1(-h)
    integral1 = h - integral0
    integral2 = h * h - 2 * integral1
    slope, curvature = integral1, integral2 + h1 * integral1  # the factors of [01] and of [012]
    # [01] = (x0 - x1)/h1, [12] = (x1 - x2)/h2 and [012] = ([01] - [12])/(h1 + h2), with x1, x2 the earlier estimates
    of_01 = slope + curvature / (h1 + h2)
    of_12 = -curvature / (h1 + h2)
    alpha = step.next.alpha
    return Coefficients(
        x=step.next.sigma / step.now.sigma,
        x0=(alpha * (integral0 + of_01 / h1), alpha * (of_12 / h2 - of_01 / h1), -alpha * of_12 / h2),
    )


@dataclass(frozen=True, kw_only=True)
class Equation:
    """An update rule and what may be asked of it."""

    coefficients: Callable[[Step], Coefficients]
    uses_eta: bool = False
    has_published_grid: bool = False  # the authors of published systems ship this sampler
    adds_noise: bool = False  # always, so that no placement can be searched by where single runs end
    corrects_start: bool = False  # the first step is made again, from the second evaluation; see `pndm`
    is_measured: bool = False  # coefficients rest on the network's own noise, which `schedule` measures


# In the order in which they are shown to users.
EQUATIONS: dict[str, Equation] = {
    "ddpm": Equation(coefficients=ddpm, has_published_grid=True, adds_noise=True),
    "ddim": Equation(coefficients=ddim, uses_eta=True, has_published_grid=True),
    "pndm": Equation(coefficients=pndm, corrects_start=True),
    "analytic-dpm": Equation(coefficients=analytic_dpm, uses_eta=True, adds_noise=True, is_measured=True),
    "dpmpp-2m": Equation(coefficients=dpmpp_2m),
    "dpmpp-3m": Equation(coefficients=dpmpp_3m),
}


def _first_order(step: Step) -> Coefficients:
    """DDIM without noise, which is the first-order data-prediction step (DPM-Solver++, section 4)."""
    ratio = step.next.sigma / step.now.sigma
    return Coefficients(x=ratio, x0=(step.next.alpha - ratio * step.now.alpha,))


def _factor_of_eps(now: Point, after: Point) -> float:
    """B of x_next = (alpha_next/alpha)*x + B*eps, DDIM's step without noise in x and eps."""
    return after.sigma - after.alpha * now.sigma / now.alpha


def _ancestral_deviation(step: Step) -> float:
    """Standard deviation of q(x_next | x, x0): sqrt(beta)*sigma_next/sigma."""
    return math.sqrt(max(step.beta, 0.0)) * step.next.sigma / step.now.sigma


def _order(step: Step, highest: int) -> int:
    """The order that the past allows, lowered towards the last step, whose stride is the least certain."""
    return min(highest, len(step.levels), step.steps_after + 1)
