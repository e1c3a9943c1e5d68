"""Workers on every machine of the cluster that has room for them, and pictures handed out to them, few at a time.

Why not Ray Data: an exception in one picture ends its job, its checkpoints did not resume (2.60), and its progress is
in blocks. A loop over `ray.wait` knows of each picture where it is. Workers are bound to their machines, so that one
that is refused, lost or new is known by name. A picture whose worker died is made by another one, alone, so that one
that kills its worker takes no others with it.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.cluster.worker import LANES, Report, Unit, Worker
from deploy.errors import ClusterError

IN_FLIGHT = LANES + 1
"""Pictures that a worker has at most: those it is at, and the next one."""

MOST_LOSSES = 3
"""Workers that may die at a picture before it is given up."""

LOOK_S = 5.0
"""Seconds between two looks at which machines there are."""

WAIT_S = 0.5
"""Seconds that the loop waits for news before it looks around."""

CLOSE_S = 2.0
"""Seconds that workers have to tidy up; what a stopped one leaves, the next one on its machine removes."""

BUSY_S = 20.0
"""Seconds without any worker after which people are told that the cluster is busy."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What of a machine a worker takes; parts of processors and of GPUs are allowed."""

    cpus: float
    gpus: float

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or self.cpus + self.gpus == 0:
            raise ClusterError(f"A worker must take a part of a machine: `cpus` {self.cpus:g}, `gpus` {self.gpus:g}.")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ClusterError(f"`gpus` is a part of one GPU or a whole number, found {self.gpus:g}.")

    def fits(self, resources: dict[str, float]) -> int:
        """How many workers a machine has room for."""
        parts = [("CPU", self.cpus), ("GPU", self.gpus)]
        # Thousandths, as floats of tenths do not add up.
        return int(min((resources.get(name, 0) + 1e-3) / part for name, part in parts if part))

    def __str__(self) -> str:
        return " and ".join(f"{n:g} {name}" for n, name in ((self.cpus, "CPUs"), (self.gpus, "GPUs")) if n)


@dataclass(eq=False)
class Member:
    """A worker, its machine, and what it has to do. is_open: whether it can make pictures already."""

    actor: Any
    node: str
    machine: str
    is_open: bool = False
    running: set[Any] = field(default_factory=set)
    is_alone: bool = False  # with a picture at which another worker died


@dataclass(eq=False)
class Errand:
    """A unit on its way, and how many workers died at it."""

    unit: Unit
    losses: int = 0


Made = tuple[Unit, list[Report] | str]
"""A unit and what came of it, or why it was given up."""


class Pool:
    """The workers of one run; `made` hands out units. order: where the workers' order lies in the cluster's store."""

    def __init__(self, ray: Any, order: Any, share: Share, say: Callable[[str], None]) -> None:
        self._ray = ray
        self._order = order
        self._share = share
        self._say = say
        self._members: list[Member] = []
        self._of: dict[Any, tuple[Member, Errand | None]] = {}  # by what is waited for; None: the opening
        self._refused: dict[str, str] = {}  # machines by id
        self._deaths: Counter[str] = Counter()  # of workers while they opened, by machine
        self._again: deque[Errand] = deque()
        self._looked = float("-inf")
        self._since = time.monotonic()  # there has been no open worker
        self._is_told = False
        self.repeated = 0  # units that were handed out again

    @property
    def size(self) -> int:
        """Workers that can make pictures."""
        return sum(member.is_open for member in self._members)

    def made(self, units: Iterator[Unit]) -> Iterator[Made]:
        """What came of each unit, in any order; at most a few for each worker are taken ahead."""
        try:
            self._look_at_machines()
            is_over = False
            while not is_over or self._again or any(errand for _, errand in self._of.values()):
                is_over = self._hand_out(units) or is_over
                yield from self._news()
                self._look_at_machines()
        finally:
            self._end()

    def _end(self) -> None:
        """No worker is left."""
        closing = [member.actor.close.remote() for member in self._members if member.is_open]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        for member in self._members:
            self._ray.kill(member.actor)

    def _news(self) -> Iterator[Made]:
        """What has come in; waits a little for it."""
        waiting = list(self._of)
        if not waiting:
            time.sleep(WAIT_S)
            return
        ready, _ = self._ray.wait(waiting, timeout=WAIT_S)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for reference in ready:
            if reference not in self._of:  # its worker was lost with another one that came in
                continue
            member, errand = self._of.pop(reference)
            member.running.discard(reference)
            if errand is None:
                self._opened(member, reference)
            else:
                yield from self._came(member, errand, reference)

    def _came(self, member: Member, errand: Errand, reference: Any) -> Iterator[Made]:
        from ray.exceptions import RayError, RayTaskError

        member.is_alone = False
        try:
            yield errand.unit, self._ray.get(reference)
        except RayTaskError as error:
            yield errand.unit, f"it could not be made: {_told(error)}"
        except RayError as error:
            self._again.appendleft(errand)
            errand.losses += 1
            self._lost(member)
            self._say(f"a worker on {member.machine} is lost ({_told(error)}); its pictures are made by others")
        given_up = [lost for lost in self._again if lost.losses >= MOST_LOSSES]
        for lost in given_up:
            self._again.remove(lost)
            yield lost.unit, f"{MOST_LOSSES} workers died while it was made: is there memory enough for it?"

    def _lost(self, member: Member) -> None:
        """The worker is no more, and what it was at is to be made again."""
        self._members.remove(member)
        self._ray.kill(member.actor)
        for reference in member.running:
            _, errand = self._of.pop(reference)
            if errand is not None:
                errand.losses += 1
                self._again.append(errand)
        self._looked = float("-inf")

    def _opened(self, member: Member, reference: Any) -> None:
        from ray.exceptions import RayError, RayTaskError

        try:
            refusal = self._ray.get(reference)
        except RayTaskError as error:
            refusal = _told(error)
        except RayError as error:
            self._deaths[member.node] += 1
            self._lost(member)
            if self._deaths[member.node] >= MOST_LOSSES or "failed to import" in str(error):
                self._refuse(member, _told(error))
            return
        if refusal is None:
            member.is_open = True
            self._is_told = True
        else:
            self._refuse(member, refusal)

    def _refuse(self, member: Member, reason: str) -> None:
        """The machine gets no pictures in this run."""
        if member.node not in self._refused:
            self._refused[member.node] = f"{member.machine}: {reason}"
            self._say(f"{member.machine} is not used: {reason}")
        for other in [other for other in self._members if other.node == member.node]:
            self._lost(other)

    def _hand_out(self, units: Iterator[Unit]) -> bool:
        """Each open worker has something to do; whether there are no more units."""
        while True:
            free = [m for m in self._members if m.is_open and not m.is_alone and len(m.running) < IN_FLIGHT]
            idle = [m for m in free if not m.running]
            if self._again and idle:
                member, errand = idle[0], self._again.popleft()
                member.is_alone = True
                self.repeated += 1
            elif len(free) > bool(self._again):
                # While a picture waits to be made alone, the worker with the least to do gets nothing new.
                member = sorted(free, key=lambda each: len(each.running))[bool(self._again)]
                unit = next(units, None)
                if unit is None:
                    return True
                errand = Errand(unit)
            else:
                return False
            reference = member.actor.make.remote(errand.unit)
            member.running.add(reference)
            self._of[reference] = member, errand

    def _look_at_machines(self) -> None:
        """Every machine that lives and is not refused has the workers it has room for."""
        now = time.monotonic()
        if self.size:
            self._since = now
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for member in [each for each in self._members if each.node not in nodes and not each.is_open]:
            self._lost(member)
        here = Counter(member.node for member in self._members)
        for identity, node in nodes.items():
            if identity not in self._refused:
                for _ in range(self._share.fits(node["Resources"]) - here[identity]):
                    self._add(identity, f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})")
        if not self._members:
            self._refuse_all(nodes)
        if not self._is_told and now - self._since > BUSY_S:
            self._is_told = True
            self._say(f"no worker has begun for {BUSY_S:.0f} s: others seem to use the cluster ({self._share} each)")

    def _refuse_all(self, nodes: dict[str, Any]) -> None:
        """There is no machine to work on, and why."""
        if any(identity in self._refused for identity in nodes):
            raise ClusterError(
                f"No machine of the Ray cluster can make these pictures. {'; '.join(self._refused.values())}"
            )
        rooms = ", ".join(
            f"{node['NodeManagerHostname']} has {node['Resources'].get('CPU', 0):g} CPUs and "
            f"{node['Resources'].get('GPU', 0):g} GPUs"
            for node in nodes.values()
        )
        raise ClusterError(
            f"No machine of the Ray cluster has room for a worker of {self._share}: {rooms or 'none is alive'}. Ask "
            "for less with `cpus` and `gpus`."
        )

    def _add(self, node: str, machine: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            self._ray.remote(Worker)
            .options(
                num_cpus=self._share.cpus,
                num_gpus=self._share.gpus,
                max_concurrency=LANES,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
            )
            .remote(self._order)
        )
        member = Member(actor, node, machine)
        self._members.append(member)
        reference = actor.open.remote()
        member.running.add(reference)
        self._of[reference] = member, None


def _told(error: BaseException) -> str:
    """What Ray says, in a line."""
    cause = getattr(error, "cause", None)
    text = str(cause if cause is not None else error)
    if "ModuleNotFoundError" in text or "failed to import" in text:
        return "it has no idm-deploy of this version for the Python that Ray runs there"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__
