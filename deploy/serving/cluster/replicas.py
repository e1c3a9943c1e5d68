"""The replicas as those see them who want pictures of them: asked through Ray Serve, which chooses one of them."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deploy.serving.pool import Event
from deploy.serving.problems import Problem
from deploy.serving.start import service_folder

MOST_TRIES = 3
"""Replicas that may die of a picture before its request fails."""

ENDS = frozenset({"answer", "done", "failed"})
"""Events after which nothing comes."""


class Replicas:
    """The replicas in place of a pool of workers. Its folder, for the files of whoever asks, goes with `stop`.

    pictures: Ray Serve's handle of them. full, which whoever asks sets: the refusal where all are busy and as many
    requests wait as may.
    """

    full: Callable[[], Problem]

    def __init__(self, pictures: Any) -> None:
        self.models: list[Event] = []
        self.refusal: str | None = None
        self.workers: list[Any] = []
        self.restarts = 0
        self._ends = ExitStack()
        self.folder = self._ends.enter_context(service_folder())
        self.on_event: Any = None
        self._pictures = pictures
        self._streaming = pictures.options(stream=True)

    @property
    def ready(self) -> list[Event]:
        """Something where pictures can be made."""
        return self.models

    async def describe(self) -> None:
        """What the replicas have is known, as soon as one is there."""
        while not self.models:
            try:
                self.models = await self._pictures.describe.remote()
            except Exception:  # none is there yet: it is asked again
                await asyncio.sleep(0.5)

    async def ask(self, order: Event) -> Event:
        """The answer to a look or a view, whose file is then at its target. Problem where it is refused."""
        image, target = order.get("image"), order.get("target")
        file = None if image is None else await asyncio.to_thread(Path(image).read_bytes)
        plain = {name: value for name, value in order.items() if name not in ("image", "target")}
        answer = [event async for event in self._of_any(self._streaming.answer, plain, file)][-1]
        if answer["event"] == "failed":
            raise Problem(answer["status"], answer["detail"])
        if target is not None:
            await asyncio.to_thread(write_whole, Path(target), answer.pop("file"))
        return answer

    async def make(
        self, file: bytes, asked: dict[str, Any], previews: int, *, is_followed: bool
    ) -> AsyncGenerator[Event]:
        """What comes of a picture, the last event its end; before it, where it is followed, what a replica says.

        {"event": "lost"}: it is made once more, as a replica died. Problem where no replica can make it.
        """
        async for event in self._of_any(self._streaming.make, file, asked, previews, is_followed):
            yield event

    async def stop(self, seconds: float) -> None:
        """Nothing is left on disk; replicas are Ray's."""
        del seconds
        self._ends.close()

    async def _of_any(self, method: Any, *arguments: Any) -> AsyncGenerator[Event]:
        """The events of a call of a replica; of another one where it dies."""
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

        for _ in range(MOST_TRIES):
            response = method.remote(*arguments)
            is_over = False
            try:
                async for event in response:
                    is_over = event["event"] in ENDS
                    yield event
                return
            except BackPressureError as error:
                raise self.full() from error
            except (DeploymentUnavailableError, ReplicaUnavailableError) as error:
                seconds = {"Retry-After": "5"}
                raise Problem(503, "No replica can make pictures now. Try again in a few seconds.", seconds) from error
            except RayActorError:
                if is_over:
                    return
            except (asyncio.CancelledError, GeneratorExit):  # nobody wants it any more
                response.cancel()
                raise
            yield {"event": "lost"}
        raise Problem(500, f"{MOST_TRIES} replicas died while this picture was made: is there memory enough for it?")


def write_whole(target: Path, content: bytes) -> None:
    """The file is there with all of its content, or not at all."""
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    part.replace(target)
