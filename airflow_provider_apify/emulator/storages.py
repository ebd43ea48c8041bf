"""Storages: datasets and key-value stores."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_apify.emulator.world import World


@dataclass(eq=False)
class Dataset:
    """Items, each with when it was pushed."""

    id: str
    pushed: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def push(self, items: Iterable[dict[str, Any]], at: float | None = None) -> None:
        """Append items. ``at``: when it is said to have happened, in seconds since the epoch; default: now."""
        pushed_at = time.time() if at is None else at
        self.pushed += [(pushed_at, item) for item in items]


class Datasets(dict[str, Dataset]):
    """All datasets by id."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def create(self) -> Dataset:
        dataset = Dataset(self._world.new_id())
        self[dataset.id] = dataset
        return dataset


@dataclass(eq=False)
class KeyValueStore:
    id: str
    records: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def put(self, key: str, body: bytes, content_type: str) -> None:
        self.records[key] = (body, content_type)


class KeyValueStores(dict[str, KeyValueStore]):
    """All key-value stores by id."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def create(self) -> KeyValueStore:
        store = KeyValueStore(self._world.new_id())
        self[store.id] = store
        return store
