"""Datasets and key-value stores: the requests for their contents, and which part of a dataset's items is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from airflow_provider_apify.api import endpoints
from airflow_provider_apify.api.endpoints import Answer, Request, parameters
from airflow_provider_apify.api.fields import time as time_of

#: What names of fields may be given as: also as Apify's API has it, with commas between them.
Names = Iterable[str] | str | None

_KEY = r"[A-Za-z0-9!\-_.'()]{1,256}"


class Filters(NamedTuple):
    """What Apify is to make of each item, by Apify's names."""

    fields: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    unwind: tuple[str, ...] = ()
    flatten: tuple[str, ...] = ()
    clean: bool = False
    view: str = ""

    @property
    def keep_number(self) -> bool:
        """Whether there are as many items after them as before."""
        return not (self.unwind or self.clean or self.view)

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        names = {name: ",".join(getattr(self, name)) or None for name in ("fields", "omit", "unwind", "flatten")}
        return parameters(**names, clean=self.clean or None, view=self.view or None)


def filters(
    *,
    fields: Names = None,
    omit: Names = None,
    unwind: Names = None,
    flatten: Names = None,
    clean: bool | None = None,
    view: str | None = None,
) -> Filters:
    """
    Check and give filters.

    :raises ValueError: one cannot be used; the message names it.
    """
    if clean not in (None, True, False):
        raise ValueError(f"clean must be True or False; got {clean!r}")
    if not isinstance(view, str | None):
        raise ValueError(f"view must be the name of a view of the dataset; got {view!r}")
    return Filters(
        _names("fields", fields),
        _names("omit", omit),
        _names("unwind", unwind),
        _names("flatten", flatten),
        bool(clean),
        view or "",
    )


def get_items(dataset_id: object, filters: Filters, *, offset: int, limit: int) -> Request:
    """
    Get items as lines of JSON.

    :param offset: how many stored items to pass over.
    :param limit: how many stored items to look at; filters may make more or fewer of them.
    """
    query = parameters(format="jsonl", offset=offset or None, limit=limit) + filters.query
    return Request("GET", f"{_dataset_path(dataset_id)}/items", query, answer=Answer.TEXT)


def get_dataset(dataset_id: object) -> Request:
    return Request("GET", _dataset_path(dataset_id))


def modified_at(data: object) -> datetime | None:
    """Give when a dataset, as Apify shows it, has changed last; ``None`` if it does not say so."""
    return time_of(data, "modifiedAt") if isinstance(data, Mapping) else None


def get_record(store_id: object, key: object) -> Request:
    return Request("GET", f"{_store_path(store_id)}/records/{quote(_key(key), safe='')}", answer=Answer.RECORD)


def get_store(store_id: object) -> Request:
    return Request("GET", _store_path(store_id))


def validate_input(actor_id: object, body: bytes, *, build: str | None) -> Request:
    path = f"{endpoints.actor_path(actor_id)}/validate-input"
    return Request("POST", path, parameters(build=build), body=body, content_type="application/json", answer=Answer.ANY)


def _dataset_path(dataset_id: object) -> str:
    return f"/v2/datasets/{endpoints.check_id('dataset_id', dataset_id, 'dataset')}"


def _store_path(store_id: object) -> str:
    return f"/v2/key-value-stores/{endpoints.check_id('store_id', store_id, 'key-value store')}"


def _key(key: object) -> str:
    if not isinstance(key, str) or not re.fullmatch(_KEY, key) or key in (".", ".."):
        raise ValueError(f"key must be 1 to 256 of the letters a-z and A-Z, digits and ! - _ . ' ( ); got {key!r}")
    return key


def _names(argument: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip()[:1] in ("[", "("):
        raise ValueError(
            f"{argument} must be a list of names of fields, or names with commas between them; got the text {value!r}."
            "\nA template gives text: end it with the filter join(','), or use the output of another task."
        )
    names = (
        [name.strip() for name in value.split(",") if value.strip()] if isinstance(value, str) else list(value or ())
    )
    if not all(isinstance(name, str) and name and "," not in name and endpoints.is_unicode(name) for name in names):
        raise ValueError(f"{argument} must be a list of names of fields, without commas in them; got {value!r}")
    return tuple(names)
