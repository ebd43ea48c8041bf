"""
A local emulator of Apify's API for Actor builds and runs, to test DAGs without an account and without cost.

It shares no code with the rest of the provider, so that the two cannot agree on the same mistake.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.actors import Actor
    from airflow_provider_apify.emulator.faults import Fault
    from airflow_provider_apify.emulator.server import Emulator

__all__ = ["Actor", "Emulator", "Fault"]

for _name in ("fastapi", "jsonschema", "pydantic", "starlette", "uvicorn"):
    if find_spec(_name) is None:
        raise ModuleNotFoundError(
            f"The emulator needs {_name}: pip install 'airflow-provider-apify[emulator]'", name=_name
        )

_MODULES = {"Actor": "actors", "Emulator": "server", "Fault": "faults"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
