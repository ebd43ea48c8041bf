"""The application: the endpoints of Apify's API, a module for each kind of resource, and the emulator's own."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from airflow_provider_apify.emulator import actors, builds, control, logs, pages, runs, storages, tasks, users
from airflow_provider_apify.emulator.answers import ApiError, refusal

app = FastAPI(openapi_url=None, redirect_slashes=False)
for prefix in ("/v2/acts", "/v2/actors"):
    app.include_router(actors.router, prefix=prefix)
    app.include_router(builds.actor_router, prefix=prefix)
    app.include_router(runs.actor_router, prefix=prefix)
for module in (builds, runs, tasks, logs, storages, users, control, pages):
    app.include_router(module.router)
for error in (ApiError, RequestValidationError, HTTPException):
    app.add_exception_handler(error, refusal)
