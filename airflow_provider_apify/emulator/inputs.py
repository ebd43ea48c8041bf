"""The input of a run: its body as it was sent, and what the input schema of an Actor says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from jsonschema import Draft7Validator, ValidationError

from airflow_provider_apify.emulator.answers import ApiError
from airflow_provider_apify.emulator.bodies import read_body, unpacked

_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True)
class RunInput:
    """The input of a run: empty if there was none."""

    body: bytes = b""
    content_type: str = _JSON

    @property
    def fields(self) -> dict[str, Any]:
        """Give its fields if it is a JSON object, else none."""
        try:
            parsed = json.loads(self.body)
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}


async def _read(request: Request) -> RunInput:
    body, encoding = await read_body(request)
    return RunInput(unpacked(body, encoding), request.headers.get("content-type", _JSON))


Input = Annotated[RunInput, Depends(_read)]


def json_input(fields: dict[str, Any]) -> RunInput:
    return RunInput(json.dumps(fields).encode())


def json_fields(run_input: RunInput) -> dict[str, Any]:
    """
    Give the fields of an input that must be a JSON object; no input and ``null`` have none.

    :raises ApiError: it is something else.
    """
    if not run_input.body:
        return {}
    if run_input.content_type.partition(";")[0].strip().lower() != "application/json":
        raise _invalid('Actor input must have content type "application/json".')
    try:
        fields = json.loads(run_input.body)
    except ValueError as error:
        raise _invalid(f"Cannot parse input JSON body: {error}") from None
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise _invalid(f'The input JSON must be object, got "{_JSON_TYPES[type(fields)]}" instead.')
    return fields


def checked(run_input: RunInput, schema: dict[str, Any] | None) -> RunInput:
    """
    Give the input with the defaults of ``schema``; without a schema anything may be the input.

    :raises ApiError: the schema refuses it; the message names each field.
    """
    if schema is None:
        return run_input
    defaults = {
        name: described["default"] for name, described in schema.get("properties", {}).items() if "default" in described
    }
    given = json_fields(run_input)
    fields = defaults | given
    errors = sorted(Draft7Validator(schema).iter_errors(fields), key=lambda error: list(map(str, error.path)))
    if errors:
        raise _invalid("Input is not valid: " + ", ".join(dict.fromkeys(map(_in_words_of_apify, errors))))
    return run_input if fields == given and run_input.body else json_input(fields)


def _in_words_of_apify(error: ValidationError) -> str:
    rule = str(error.validator)
    allowed: Any = error.validator_value
    if rule == "required":
        name = next(name for name in allowed if f"{name!r} is a required property" == error.message)
        return f"Field {_place(error, name)} is required"
    if rule == "additionalProperties":
        instance: Any = error.instance
        schema: Any = error.schema
        names = [name for name in instance if name not in schema.get("properties", {})]
        return ", ".join(f"Property {_place(error, name)} is not allowed." for name in names)
    if rule == "enum":
        allowed = '", "'.join(map(str, allowed))
    words = _WORDS[rule].format(allowed) if rule in _WORDS else error.message
    return f"Field {_place(error)} {words}"


def _place(error: ValidationError, *names: str) -> str:
    return ".".join(["input", *map(str, error.path), *names])


def _invalid(message: str) -> ApiError:
    return ApiError(400, "invalid-input", message)


_JSON_TYPES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean"}
_WORDS = {
    "type": "must be {}",
    "enum": 'must be equal to one of the allowed values: "{}"',
    "minimum": "must be >= {}",
    "maximum": "must be <= {}",
    "minItems": "must NOT have fewer than {} items",
    "maxItems": "must NOT have more than {} items",
    "minLength": "must NOT have fewer than {} characters",
    "maxLength": "must NOT have more than {} characters",
    "pattern": 'must match pattern "{}"',
}
