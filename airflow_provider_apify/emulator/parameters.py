"""What endpoints take: ``WithToken`` has the token, ``Anyone`` may have none, but not a wrong one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator

from airflow_provider_apify.emulator.answers import ApiError
from airflow_provider_apify.emulator.call import Call


def _flag(value: Any) -> Any:
    """Apify's booleans; anything else is left for the validation to refuse."""
    return {"true": True, "1": True, "false": False, "0": False}.get(value, value if isinstance(value, bool) else None)


async def _anyone(request: Request) -> Call:
    call: Call = request.state.call
    if call.token is not None and not call.record.authorized:
        raise ApiError(401, "user-or-token-not-found", "User was not found or authentication token is not valid")
    return call


Anyone = Annotated[Call, Depends(_anyone)]


async def _with_token(call: Anyone) -> Call:
    if call.token is None:
        raise ApiError(401, "token-not-provided", "Authentication token was not provided")
    return call


WithToken = Annotated[Call, Depends(_with_token)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, Query(ge=0)]
Wait = Annotated[float, Query(alias="waitForFinish", ge=0)]
