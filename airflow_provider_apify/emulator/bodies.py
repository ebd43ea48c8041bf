"""The bodies of requests, which clients may pack; Apify's JavaScript client packs those above 1 kB with Brotli."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

from fastapi import Request

from airflow_provider_apify.emulator.answers import ApiError

_MAX_BYTES = 9_437_184


async def read_body(request: Request) -> tuple[bytes, str | None]:
    """
    Give the body of a request as it was sent, and the ``Content-Encoding`` that it is packed with, if any.

    :raises ApiError: it is too large, or packed in another way than ``unpacked`` knows.
    """
    body, encoding = await request.body(), request.headers.get("content-encoding", "identity")
    if len(unpacked(body, encoding)) > _MAX_BYTES:
        raise ApiError(413, "request-too-large", f"The POST payload is too large (limit: {_MAX_BYTES} bytes).")
    return body, None if encoding == "identity" else encoding


def unpacked(body: bytes, encoding: str | None) -> bytes:
    """
    Unpack a body.

    :raises ApiError: it is not packed so, or the emulator cannot unpack it.
    """
    if encoding in (None, "identity"):
        return body
    unpack: Callable[[bytes], bytes]
    if encoding == "gzip":
        unpack = partial(zlib.decompress, wbits=31)
    elif encoding == "br":
        try:
            import brotli
        except ModuleNotFoundError:
            message = "For a body that is packed with Brotli, the emulator needs brotli: pip install brotli"
            raise ApiError(415, "unsupported-content-encoding", message) from None
        unpack = brotli.decompress
    else:
        raise ApiError(415, "unsupported-content-encoding", f"Content-Encoding {encoding} is not supported")
    try:
        return unpack(body)
    except Exception:  # each library has its own
        raise ApiError(400, "invalid-request", f"The request body is not packed with {encoding}") from None
