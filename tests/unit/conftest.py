"""Apify's own definition of its API, where the tests find it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

REFERENCE = Path(__file__).parents[3] / "shared" / "apify-openapi.json"


@pytest.fixture(scope="session")
def openapi() -> dict[str, Any]:
    if not REFERENCE.exists():
        pytest.skip(f"Apify's OpenAPI definition is not at {REFERENCE}")
    definition: dict[str, Any] = json.loads(REFERENCE.read_text())
    return definition
