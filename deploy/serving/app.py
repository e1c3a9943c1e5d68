"""The application: its routes under /v1, the page, and what watches over both."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import deploy
from deploy.serving import jobs_routes, upscale_route
from deploy.serving.jobs import Jobs
from deploy.serving.metrics import Metrics
from deploy.serving.options import ServeOptions
from deploy.serving.page import page_files
from deploy.serving.problems import GONE, Problem
from deploy.serving.protocols import automatic, v2
from deploy.serving.reference import reference, style_of_reference
from deploy.serving.security import Guard

MakesJobs = Callable[[ServeOptions, Any, Metrics], Jobs]


def make_app(options: ServeOptions, pool: Any, jobs_of: MakesJobs = Jobs) -> FastAPI:
    """A service with these settings. pool: of workers that have been started, a Pool or the like; they end with it."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.jobs = jobs = jobs_of(options, pool, metrics)
        metrics.watch(jobs.pool)
        jobs.start()
        try:
            yield
        finally:
            await jobs.stop()

    app = FastAPI(
        title="idm-deploy",
        version=deploy.__version__,
        description="Pictures enlarged by implicit diffusion super-resolution models.",
        docs_url=None,  # the usual pages fetch scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=lifespan,
    )
    app.state.options = options
    app.include_router(upscale_route.router)
    app.include_router(jobs_routes.router)
    app.include_router(v2.router)
    app.include_router(automatic.router)
    _add_health(app, metrics)
    _add_page(app)
    _add_reference(app)
    _add_problems(app)
    app.add_middleware(Guard, options=options, metrics=metrics)
    return app


def _add_health(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], responses={503: {"description": "Not ready."}})
    async def readyz(request: Request) -> JSONResponse:
        """A worker has made its first picture, and new ones are taken."""
        jobs: Jobs = request.app.state.jobs
        state = "draining" if jobs.is_draining else "ready" if jobs.pool.ready else "starting"
        body: dict[str, Any] = {"status": state, "detail": jobs.pool.refusal}
        return JSONResponse(body, 200 if state == "ready" else 503)

    @app.get("/metrics", tags=["health"])
    async def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    for address, file in page_files().items():
        answer = partial(Response, file.content, media_type=file.media_type, headers={"Cache-Control": "no-cache"})
        app.add_api_route(address, _sending(answer), include_in_schema=False, response_class=Response)


def _add_reference(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference(app.openapi()))

    @app.get("/docs.css", include_in_schema=False)
    async def style() -> Response:
        return Response(style_of_reference(), media_type="text/css; charset=utf-8")


def _sending(answer: Callable[[], Response]) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return answer()

    return send


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def refused(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def refused_by_framework(_: Request, error: HTTPException) -> Response:
        details = {
            404: "There is nothing at this address.",
            405: "This address does not take requests of this method.",
            400: f"The request cannot be read: {error.detail}",
        }
        return Problem(error.status_code, details.get(error.status_code, str(error.detail)), error.headers).response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        del error
        return Problem(GONE, "The client hung up before its request was complete.").response()

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        detail = f"The service has a fault ({type(error).__name__}); its log has more."
        return Problem(500, detail).response()  # the error goes on into the log

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("query", "path", "body"))
        return Problem(422, f"{where or 'The request'}: {first['msg']}.").response()
