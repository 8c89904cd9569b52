"""The web application: the routes of MONAI Label's clients and ours, behind the guard.

MONAI Label's own application is never imported: its endpoints block the event loop and trust what
they are sent. Here every endpoint is a plain function, run in a thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from cinelabel import __version__
from fastapi import FastAPI
from monailabel.interfaces.utils.app import app_instance

from lib.http.errors import Problem, explain_errors
from lib.http.guard import Guard, Rules
from lib.http.logs import RequestLog
from lib.http.metrics import Metrics
from lib.routes import ALL
from lib.services import Services

__all__ = ["app"]


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Build the app before the first request."""
    cine = await anyio.to_thread.run_sync(app_instance)
    parts: Services = cine.services
    application.state.services = parts
    application.state.rules = Rules.of(parts.settings)
    application.state.metrics.watch(parts.gauges())
    await anyio.to_thread.run_sync(parts.start)
    yield
    await anyio.to_thread.run_sync(parts.stop)


def create() -> FastAPI:
    """The application; its parts are made when it starts."""
    application = FastAPI(
        title="CineLabel",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={"4XX": {"model": Problem}, "5XX": {"model": Problem}},
    )
    application.state.metrics = Metrics()
    for router in ALL:
        application.include_router(router)
    explain_errors(application)
    application.add_middleware(Guard)
    application.add_middleware(RequestLog)  # the one added last is the outermost
    return application


app = create()
