"""The addresses of the server, one file a subject; `ALL` is what the application includes."""

from __future__ import annotations

from fastapi import APIRouter

from lib.routes import (
    activelearning,
    auth,
    batch,
    cases,
    datastore,
    health,
    home,
    infer,
    info,
    jobs,
    models,
    pacs,
    progress,
    reviews,
    session,
    suggestions,
    train,
    training,
)

ALL: tuple[APIRouter, ...] = (
    auth.router,
    info.router,
    activelearning.router,
    datastore.router,
    session.router,
    cases.router,
    suggestions.router,
    reviews.router,
    infer.router,
    progress.router,
    batch.router,
    train.router,
    training.router,
    models.router,
    jobs.router,
    pacs.router,
    health.router,
    home.router,
)
