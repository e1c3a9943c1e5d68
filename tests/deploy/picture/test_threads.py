"""One Upscaler and many threads: every picture is what it would be alone, and nothing stays behind a run that ends."""

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import Progress, Upscaler
from deploy.bundle import Bundle
from deploy.engine import graphs as graphs_module
from deploy.engine.graphs import DENOISE
from deploy.families.idm.model import IdmSubject
from deploy.images.files import read_image, write_image
from deploy.picture import room as room_module
from deploy.picture.memory import StateArrays
from deploy.picture.room import ROOM, Room
from engines.forms import Forms
from tests.backends import carry_state, change_backend

GENERATOR = np.random.default_rng(5)
SMALL, WIDE, TALL = (GENERATOR.integers(0, 256, size, np.uint8) for size in [(6, 6, 3), (5, 9, 3), (11, 4, 3)])
REQUESTS: list[tuple[Any, dict[str, Any]]] = [
    (SMALL, {"scale": 2.0}),
    (SMALL, {"scale": 3.5, "seed": 1}),
    (WIDE, {"size": (31, 17), "start": 0.5}),
    (TALL, {"scale": 4.0, "equation": "ddpm", "steps": 3}),
    (TALL, {"scale": 10.0, "steps": 2, "tile": 32}),
    ([SMALL, WIDE, SMALL], {"scale": 2.5}),
]
WAIT_S = 60.0
"""Seconds after which a test that waits for another thread has failed."""


class Enough(Exception):  # noqa: N818  not an error
    """The caller wants no more of a picture."""


def pixels(made: Any) -> bytes:
    return b"".join(picture.tobytes() for picture in (made if isinstance(made, list) else [made]))


def made_at_the_same_time(up: Upscaler, requests: list[tuple[Any, dict[str, Any]]], calls: int) -> list[bool]:
    """Whether each of so many calls by four threads returns what its request returns alone."""
    expected = [pixels(up.upscale(image, **options)) for image, options in requests]

    def call(number: int) -> bool:
        image, options = requests[number]
        return pixels(up.upscale(image, **options)) == expected[number]

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(call, np.random.default_rng(0).permutation(np.arange(calls) % len(requests))))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino-cpu"])
def test_pictures_made_at_the_same_time_are_those_made_alone(
    quantized_idm: Bundle, engine: str, precision: str
) -> None:
    """Two hundred in all, on the engines' own number of threads."""
    with Upscaler(quantized_idm, engine, precision) as up:
        assert made_at_the_same_time(up, REQUESTS, 50) == [True] * 50


@pytest.mark.parametrize(("engine", "precision"), [("onnxruntime-cpu", "int8"), ("openvino-cpu", "fp32")])
def test_each_run_keeps_the_form_that_was_compiled_for_its_size(
    quantized_idm: Bundle, engine: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large work on OpenVINO does. No more forms are open than runs need, and one stays for the next run."""
    change_backend(monkeypatch, engine, fixed_sizes_pay_from=0.0)
    opened, most = list[Any](), 0
    take, open_engine = Forms.take, graphs_module.open_engine

    def counted_take(self: Forms, name: str, shapes: Any) -> Any:
        nonlocal most
        form = take(self, name, shapes)
        most = max(most, len(self._open.get(name, ())))
        return form

    def counted_open(*arguments: Any, **options: Any) -> Any:
        opened.append(options["sizes"])
        return open_engine(*arguments, **options)

    monkeypatch.setattr(Forms, "take", counted_take)
    monkeypatch.setattr(graphs_module, "open_engine", counted_open)
    with Upscaler(quantized_idm, engine, precision, threads=1) as up:
        assert made_at_the_same_time(up, REQUESTS[:2], 12) == [True] * 12
        assert 2 <= most <= 4
        assert len(up.graphs._forms._open[DENOISE]) == 1
        # Once before the first picture, for any size; then at most once for each picture.
        forms = [sizes for sizes in opened if sizes and "width" in sizes]
        assert len(forms) <= 14


def test_latent_pictures_made_at_the_same_time(latent_sr: Bundle) -> None:
    with Upscaler(latent_sr, threads=1) as up:
        requests: list[tuple[Any, dict[str, Any]]] = [
            (SMALL, {"scale": 2.0, "steps": 2}),
            (WIDE, {"size": (31, 17), "steps": 3, "seed": 4}),
        ]
        assert made_at_the_same_time(up, requests, 16) == [True] * 16


@pytest.fixture(scope="module")
def up(idm_micro: Bundle) -> Iterator[Upscaler]:
    with Upscaler(idm_micro, threads=1) as upscaler:
        yield upscaler


def test_a_small_picture_need_not_wait_for_a_large_one(up: Upscaler) -> None:
    """While the first is between two steps, another thread makes a whole picture: nothing is locked meanwhile."""
    expected = up.upscale(WIDE, scale=2.0)
    found: list[Any] = []

    def overtaken(done: Progress) -> None:
        if done.step == 1:
            other = threading.Thread(target=lambda: found.append(up.upscale(WIDE, scale=2.0)))
            other.start()
            other.join(WAIT_S)
            assert not other.is_alive()

    alone = up.upscale(SMALL, scale=4.0, steps=4)
    np.testing.assert_array_equal(up.upscale(SMALL, scale=4.0, steps=4, progress=overtaken), alone)
    np.testing.assert_array_equal(found[0], expected)


def test_progress_may_make_another_picture(up: Upscaler) -> None:
    made: list[Any] = []

    def nested(_done: Progress) -> None:
        if not made:
            made.append(up.upscale(WIDE, scale=2.0))

    expected = up.upscale(SMALL, scale=4.0, steps=3)
    np.testing.assert_array_equal(up.upscale(SMALL, scale=4.0, steps=3, progress=nested), expected)
    np.testing.assert_array_equal(made[0], up.upscale(WIDE, scale=2.0))


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("carried", [False, True])
def test_an_exception_of_progress_cancels_within_a_step_and_leaves_nothing_behind(
    idm_micro: Bundle, tile: int | None, carried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if carried:  # as on CUDA
        carry_state(monkeypatch, "onnxruntime-cpu")
    told: list[Progress] = []

    def stop(done: Progress) -> None:
        told.append(done)
        if len(told) == 2:
            raise Enough

    with Upscaler(idm_micro, "onnxruntime-cpu", threads=1) as up:
        expected = up.upscale(TALL, scale=8.0, steps=5, start=0.0, consistency=0.0, tile=tile)
        with pytest.raises(Enough):
            up.upscale(TALL, scale=8.0, steps=5, start=0.0, consistency=0.0, tile=tile, progress=stop)
        assert len(told) == 2
        assert all(not form.users for forms in up.graphs._forms._open.values() for form in forms)
        assert not ROOM._given
        found = up.upscale(TALL, scale=8.0, steps=5, start=0.0, consistency=0.0, tile=tile)
        np.testing.assert_array_equal(found, expected)


def test_what_a_cancelled_picture_held_is_free(up: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its condition and its state no array is alive; what engines took stays theirs, for the next picture."""
    held: list[weakref.ref[Any]] = []
    condition, empty = IdmSubject.condition, StateArrays.empty

    def watched_condition(self: IdmSubject, window: Any) -> dict[str, Any]:
        made = condition(self, window)
        held.append(weakref.ref(made["first"]))
        return made

    def watched_state(self: StateArrays, shape: tuple[int, ...]) -> Any:
        made = empty(self, shape)
        held.append(weakref.ref(made))
        return made

    def stop(done: Progress) -> None:
        del done
        assert all(array() is not None for array in held)
        raise Enough

    monkeypatch.setattr(IdmSubject, "condition", watched_condition)
    monkeypatch.setattr(StateArrays, "empty", watched_state)
    with pytest.raises(Enough):
        up.upscale(TALL, scale=16.0, steps=2, progress=stop)
    gc.collect()
    assert len(held) >= 3
    assert all(array() is None for array in held)


def test_closing_waits_for_no_picture_and_frees_the_engines_after_the_last(idm_micro: Bundle) -> None:
    up = Upscaler(idm_micro, threads=1)
    engines: list[Any] = []

    def close(done: Progress) -> None:
        if done.step == 1:
            engines.append(up.graphs.engine(DENOISE))
            up.close()
            assert not engines[0].closed

    expected = up.upscale(SMALL, scale=2.0, steps=3)
    np.testing.assert_array_equal(up.upscale(SMALL, scale=2.0, steps=3, progress=close), expected)
    assert engines[0].closed
    np.testing.assert_array_equal(up.upscale(SMALL, scale=2.0, steps=3), expected)
    up.close()


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_runs_that_do_not_fit_beside_each_other_wait_in_their_order() -> None:
    room, order, go_on = Room(), list[str](), threading.Event()

    def run(name: str, wanted: int) -> None:
        with room.given(wanted, 100):
            order.append(name)
            if name in ("first", "beside"):
                go_on.wait(WAIT_S)

    def begun(count: int) -> None:
        with room._changed:
            assert room._changed.wait_for(lambda: len(room._given) + len(room._waiting) == count, WAIT_S)

    threads = [in_thread(lambda: run("first", 60))]
    begun(1)
    threads.append(in_thread(lambda: run("beside", 40)))
    begun(2)
    threads.append(in_thread(lambda: run("large", 90)))
    begun(3)
    threads.append(in_thread(lambda: run("small", 10)))  # would fit after one of the first two, but came later
    begun(4)
    assert order == ["first", "beside"]
    go_on.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert order == ["first", "beside", "large", "small"]
    assert not room._given and not room._waiting


def test_a_run_that_is_alone_or_inside_another_never_waits() -> None:
    room = Room()
    with room.given(500, 100), room.given(500, 100):
        assert len(room._given) == 2
    with pytest.raises(Enough), room.given(500, 100):
        raise Enough
    assert not room._given


def test_a_picture_is_laid_out_as_if_it_were_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    room, now = Room(), 100
    monkeypatch.setattr(room_module, "resident_bytes", lambda: now)
    assert room.resident_besides_runs() == 100
    with room.given(50, 1000):
        now = 150
        assert room.resident_besides_runs() == 100
    assert room.resident_besides_runs() == 150


def test_two_processes_on_one_bundle(quantized_idm: Bundle, tmp_path: Path) -> None:
    """`infer` at the same time on one bundle and cache makes in each the picture that it makes alone."""
    write_image(SMALL, tmp_path / "lr.png")
    command = [sys.executable, "-c", "from deploy.cli.main import main; main()", "infer", "lr.png", "--scale", "3"]
    command += ["--threads", "1", "--bundle", str(quantized_idm.path), "-o"]

    def started(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, name], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert started("alone.png").wait(5 * WAIT_S) == 0
    both = [started(f"{number}.png") for number in range(2)]
    assert [process.wait(5 * WAIT_S) for process in both] == [0, 0]
    expected = read_image(tmp_path / "alone.png").pixels
    for number in range(2):
        np.testing.assert_array_equal(read_image(tmp_path / f"{number}.png").pixels, expected)
