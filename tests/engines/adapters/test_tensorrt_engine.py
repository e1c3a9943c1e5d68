"""The TensorRT engine's own work: buffers, shapes, held inputs, capturing. A GPU and TensorRT are played by numpy.

The stand-ins keep device memory as bytes by address and know TensorRT's rules that matter here: shapes and addresses
must be set before a run, a failed call returns False or None and says why to the logger only.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.adapters import tensorrt_engine
from engines.adapters.tensorrt_engine import TensorRtEngine
from engines.contract import NOTHING_HELD, Held
from engines.errors import EngineError, OutOfMemory
from engines.onnx_files.graph_file import read_signature
from engines.plans.profiles import Profile
from engines.plans.tensorrt_names import TENSORRT_RTX
from tests.engines.graphs import Array, lookup_feeds, lookup_results, write_lookup

PROFILE = Profile(axes={"batch": (1, 1, 4), "height": (2, 8, 16), "width": (2, 8, 16), "rows": (1, 4, 8)})
DTYPES = {"x": np.float32, "index": np.int64, "gain": np.float32}


class PlayedGpu:
    """Device memory: address -> bytes."""

    def __init__(self) -> None:
        self.memory: dict[int, bytearray] = {}
        self.uploads: list[int] = []
        self.allocations = 0
        self.room = 1 << 30

    def enter(self) -> None: ...

    def allocate(self, size: int) -> int:
        if size > self.room:
            raise OutOfMemory("The GPU has not enough memory.")
        self.allocations += 1
        self.memory[self.allocations * 4096] = bytearray(size)
        return self.allocations * 4096

    def free(self, address: int) -> None:
        del self.memory[address]

    def upload(self, address: int, array: Array, stream: Any) -> None:
        del stream
        self.uploads.append(address)
        self.memory[address][: array.nbytes] = array.tobytes()

    def download(self, array: Array, address: int, stream: Any) -> None:
        del stream
        array.reshape(-1)[:] = np.frombuffer(self.memory[address], array.dtype, array.size)


class PlayedStream:
    """Runs what it is given at once; a capture runs it when launched."""

    number = 7

    def __init__(self, gpu: PlayedGpu) -> None:
        del gpu
        self.closed = False
        self.refuse_capture = False
        self.launches = 0

    def wait(self) -> None: ...

    def capture(self, work: Callable[[], None]) -> Any:
        if self.refuse_capture:
            raise EngineError("cannot capture")

        def launch(_: Any) -> None:
            self.launches += 1
            work()

        return SimpleNamespace(launch=launch, close=lambda: None)

    def close(self) -> None:
        self.closed = True


class PlayedContext:
    """Computes the lookup graph on the played memory."""

    def __init__(self, gpu: PlayedGpu, said: list[str]) -> None:
        self.gpu, self.said = gpu, said
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.fail = ""

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return self.fail != "shape"

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return ["gain"] if self.fail == "infer" else [name for name in DTYPES if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch, channels, height, width = self.shapes["x"]
        return (batch, channels, self.shapes["index"][0] if name == "picked" else height, width)

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == PlayedStream.number
        if self.fail == "run":
            self.said.append("Error Code 1: the kernel fell over")
            return False
        feeds = {
            name: np.frombuffer(self.gpu.memory[self.addresses[name]], kind, int(np.prod(self.shapes[name]))).reshape(
                self.shapes[name]
            )
            for name, kind in DTYPES.items()
        }
        for name, result in lookup_results(feeds).items():
            made = result.astype(np.float32).tobytes()
            self.gpu.memory[self.addresses[name]][: len(made)] = made
        return True


@dataclasses.dataclass
class Played:
    """The engine and what it runs on."""

    engine: TensorRtEngine
    gpu: PlayedGpu
    stream: PlayedStream
    context: PlayedContext


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, plan: bytes = b"plan", words: str = "") -> Played:
    gpu, said = PlayedGpu(), [words] if words else []
    stream, context = PlayedStream(gpu), PlayedContext(gpu, said)
    built = SimpleNamespace(create_execution_context=lambda: None if plan == b"no context" else context)

    def deserialize(data: bytes) -> Any:
        return None if data == b"damaged" else built

    module = SimpleNamespace(Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=deserialize))
    monkeypatch.setattr(tensorrt_engine, "Cuda", lambda _number: gpu)
    monkeypatch.setattr(tensorrt_engine, "Stream", lambda _: stream)
    monkeypatch.setattr(tensorrt_engine, "_import_with_logger", lambda _: (module, None, said))
    graph = write_lookup(folder)
    (folder / "engine.plan").write_bytes(plan)
    engine = TensorRtEngine(graph, read_signature(graph), "fp16", TENSORRT_RTX, folder / "engine.plan", PROFILE)
    return Played(engine, gpu, stream, context)


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    return opened(tmp_path, monkeypatch)


def check(
    played: Played, feeds: dict[str, Array], given: dict[str, Array] | None = None, held: Held = NOTHING_HELD
) -> None:
    results = played.engine.run(feeds if given is None else given, held)
    for name, expected in lookup_results(feeds).items():
        np.testing.assert_allclose(results[name], expected, atol=1e-5)


def test_results_for_changing_shapes(played: Played) -> None:
    for size in [(2, 5, 6), (1, 3, 9), (3, 8, 2), (2, 5, 6)]:
        check(played, lookup_feeds(*size))


def test_buffers_are_kept_and_grow(played: Played) -> None:
    check(played, lookup_feeds(2, 5, 6))
    first = played.gpu.allocations
    assert first == 5  # three inputs, two outputs
    check(played, lookup_feeds(1, 3, 9))
    check(played, lookup_feeds(2, 5, 6))
    assert played.gpu.allocations == first
    check(played, lookup_feeds(4, 16, 16))
    assert played.gpu.allocations == first + 3  # x and both outputs
    assert len(played.gpu.memory) == 5


def test_the_second_run_of_a_shape_is_captured_and_a_new_shape_drops_it(played: Played) -> None:
    feeds = lookup_feeds()
    check(played, feeds)
    assert not played.engine.captured
    for count in (1, 2):
        check(played, feeds | {"x": feeds["x"] * np.float32(count)})
        assert played.engine.captured
        assert played.stream.launches == count
    check(played, lookup_feeds(1, 3, 9))
    assert not played.engine.captured


def test_what_cannot_be_captured_runs_plainly(played: Played) -> None:
    played.stream.refuse_capture = True
    for _ in range(3):
        check(played, lookup_feeds())
    assert played.stream.launches == 0


def test_tensorrt_may_say_that_it_cannot_be_captured(played: Played) -> None:
    played.context.is_stream_capturable = lambda stream: stream != PlayedStream.number  # type: ignore[attr-defined]
    for _ in range(3):
        check(played, lookup_feeds())
    assert not played.engine.captured


def test_held_inputs_are_uploaded_once(played: Played) -> None:
    feeds = lookup_feeds()
    held = played.engine.hold({"index": feeds["index"], "gain": feeds["gain"]})
    for count in (1, 2, 3):
        x = feeds["x"] * np.float32(count)
        check(played, feeds | {"x": x}, {"x": x}, held)
        assert len(played.gpu.uploads) == 2 + count
    check(played, feeds)
    assert len(played.gpu.uploads) == 2 + 3 + 3


def test_callers_in_turn_run_on_what_each_of_them_holds(played: Played) -> None:
    feeds = [lookup_feeds(), lookup_feeds(1, 3, 9)]
    feeds[1]["gain"] = np.array(-4, np.float32)
    held = [played.engine.hold({name: own[name] for name in ("index", "gain")}) for own in feeds]
    for number in (0, 1, 0, 0, 1):
        check(played, feeds[number], {"x": feeds[number]["x"]}, held[number])
    uploads = len(played.gpu.uploads)
    played.engine.let_go(held[1])
    check(played, feeds[1], {"x": feeds[1]["x"]}, held[1])  # is copied there again
    assert len(played.gpu.uploads) == uploads + 3


def test_sizes_outside_the_profile_are_named(played: Played) -> None:
    with pytest.raises(EngineError, match=r"outside the sizes it was built for: height 17 \(built for 2\.\.8\.\.16\)"):
        played.engine.run(lookup_feeds(1, 17, 4))
    check(played, lookup_feeds())


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("shape", r"tensorrt-rtx failed: refuses the shape \(2, 4, 5, 6\) of x"),
        ("infer", r"cannot tell the shapes of gain"),
        ("run", r"Running lookup\.onnx: tensorrt-rtx failed: failed: Error Code 1: the kernel fell over"),
    ],
)
def test_a_failing_run_is_a_sentence_and_the_next_one_works(played: Played, fail: str, message: str) -> None:
    played.context.fail = fail
    with pytest.raises(EngineError, match=message):
        played.engine.run(lookup_feeds())
    played.context.fail = ""
    check(played, lookup_feeds())


def test_memory_that_cannot_be_had(played: Played) -> None:
    check(played, lookup_feeds())
    played.gpu.room = 4000
    with pytest.raises(OutOfMemory, match="not enough memory"):
        played.engine.run(lookup_feeds(4, 16, 16))
    check(played, lookup_feeds())


def test_closing_frees_everything(played: Played) -> None:
    check(played, lookup_feeds())
    played.engine.close()
    assert played.gpu.memory == {}
    assert played.stream.closed


@pytest.mark.parametrize(
    ("plan", "words", "kind", "message"),
    [
        (b"damaged", "Magic tag does not match", EngineError, r"could not read its plan: Magic tag .*--rebuild"),
        (b"damaged", "", EngineError, r"could not read its plan: it says no more"),
        (b"no context", "Cuda Runtime (out of memory)", OutOfMemory, r"could not get memory to run in: Cuda Runtime"),
    ],
)
def test_plans_that_cannot_be_opened(
    plan: bytes, words: str, kind: type[EngineError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(kind, match=message):
        opened(tmp_path, monkeypatch, plan, words)


def test_the_runtime_cache_of_rtx_is_kept_beside_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bytes] = []
    cache = SimpleNamespace(serialize=lambda: b"compiled", deserialize=loaded.append)
    config = SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda _: None)
    for expected in ([], [b"compiled"]):
        played = opened(tmp_path, monkeypatch)
        built = SimpleNamespace(
            create_runtime_config=lambda: config, create_execution_context=lambda _, played=played: played.context
        )
        played.engine._built = built
        played.engine._context, played.engine._runtime_cache = played.engine._create_context()
        check(played, lookup_feeds())
        played.engine.close()
        assert loaded == expected
    assert (tmp_path / "runtime.cache").read_bytes() == b"compiled"
