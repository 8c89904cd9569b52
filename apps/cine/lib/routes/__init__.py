"""The addresses of the server, one file a subject; `ALL` is what the application includes."""

from __future__ import annotations

from fastapi import APIRouter

from lib.routes import activelearning, auth, datastore, health, home, infer, info, progress, session

ALL: tuple[APIRouter, ...] = (
    auth.router,
    info.router,
    activelearning.router,
    datastore.router,
    session.router,
    infer.router,
    progress.router,
    health.router,
    home.router,
)
