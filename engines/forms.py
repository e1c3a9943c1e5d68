"""The open forms of a bundle's graphs, shared by all runs: which are open, and who uses them.

A form is a graph opened for any size, or compiled for one. Weights are in memory once for each open form, so a form
that nobody uses makes way for the next one. Runs at the same time each keep theirs until they end: two pictures of
different sizes never compile in turns what the other has just closed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from engines.arrays import Array
from engines.contract import NOTHING_HELD, Engine, Held

Feeds = Mapping[str, Array]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(eq=False)
class Form:
    """One form of a graph: an engine for each range of noise levels in int8, and one engine otherwise.

    shapes: of the inputs that it is compiled for; None: it takes any size. open_engine: of a range's index.
    """

    shapes: Shapes | None
    open_engine: Callable[[int], Engine]
    users: int = 0  # guarded by the lock of Forms, as is `outdated`
    outdated: bool = False
    _engines: dict[int, Engine] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def engine(self, index: int = 0) -> Engine:
        """The engine of a range, opened now if it was not yet. Other forms are not kept from working meanwhile."""
        with self._lock:
            if index not in self._engines:
                self._engines[index] = self.open_engine(index)
            return self._engines[index]

    def close(self) -> None:
        """The memory of all engines is free."""
        with self._lock:
            while self._engines:  # each is forgotten before it is closed: one that fails is not met again
                self._engines.popitem()[1].close()


class Forms:
    """All open forms by the name of their graph, the last one asked for at the end."""

    def __init__(self, open_engine: Callable[[str, Shapes | None, int], Engine]) -> None:
        self._open_engine = open_engine
        self._open: dict[str, list[Form]] = {}
        self._lock = Lock()

    def current(self, name: str) -> Form | None:
        """The form that was asked for last, used or not; None if the graph is not open."""
        with self._lock:
            return self._open[name][-1] if self._open.get(name) else None

    def take(self, name: str, shapes: Shapes | None) -> Form:
        """The form for these shapes, used by one caller more; forms that nobody uses are closed before it opens."""
        with self._lock:
            forms = self._open.setdefault(name, [])
            form = next((form for form in forms if form.shapes == shapes), None)
            if form is None:
                self._close_unused(name)
                form = Form(shapes, lambda index: self._open_engine(name, shapes, index))
            else:
                forms.remove(form)
            forms.append(form)
            form.users += 1
            return form

    def give_back(self, name: str, form: Form) -> None:
        """The form has one user less. The last of a graph to be given back stays open for the next run."""
        with self._lock:
            form.users -= 1
            if form.users:
                return
            if form.outdated:
                form.close()
            elif form is not self._open[name][-1]:
                self._open[name].remove(form)
                form.close()
            else:
                self._close_unused(name, but=form)

    def close(self) -> None:
        """Nothing stays open: what is used closes when it is given back."""
        with self._lock:
            for name, forms in self._open.items():
                self._close_unused(name)
                for form in forms:
                    form.outdated = True
            self._open.clear()

    def _close_unused(self, name: str, but: Form | None = None) -> None:
        """Changes the list in place."""
        forms = self._open[name]
        for form in [form for form in forms if not form.users and form is not but]:
            forms.remove(form)
            form.close()


class Lease:
    """What one run has of the open graphs: the form of each that it works on, and what an engine keeps for it.

    A context manager. Belongs to one run, so to one thread at a time.
    """

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._taken: dict[str, Form] = {}
        self._held: dict[tuple[str, int], tuple[Feeds, Engine, Held]] = {}

    def engine(self, name: str, shapes: Shapes | None, index: int) -> Engine:
        """An engine of the form for these shapes, which is this run's until another form of the graph is."""
        form = self._taken.get(name)
        if form is None or form.shapes != shapes:
            self.give_back(name)
            form = self._taken[name] = self._forms.take(name, shapes)
        return form.engine(index)

    def held(self, name: str, index: int, engine: Engine, kept: Feeds) -> Held:
        """What `engine` holds of `kept`: the same for as long as this very mapping is given."""
        key = name, index
        if key in self._held and self._held[key][0] is kept:
            return self._held[key][2]
        self._let_go(key)
        if not kept:
            return NOTHING_HELD
        held = engine.hold({spec.name: kept[spec.name] for spec in engine.inputs if spec.name in kept})
        self._held[key] = kept, engine, held
        return held

    def let_go(self) -> None:
        """What engines keep for this run is free."""
        for key in list(self._held):
            self._let_go(key)

    def give_back(self, name: str) -> None:
        """The run no longer works on a graph."""
        try:
            for key in [key for key in self._held if key[0] == name]:
                self._let_go(key)
        finally:  # a device that fails must not keep the form from others
            if (form := self._taken.pop(name, None)) is not None:
                self._forms.give_back(name, form)

    def close(self) -> None:
        """All forms are given back; the lease may be used again."""
        for name in list(self._taken):
            self.give_back(name)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _let_go(self, key: tuple[str, int]) -> None:
        if key in self._held:
            _, engine, held = self._held.pop(key)
            engine.let_go(held)
