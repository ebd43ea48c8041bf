"""Arguments of operators and sensors: as a DAG gives them, as templates render them, as other tasks hand them over."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import conf

from airflow_provider_apify.api.endpoints import check_wait
from airflow_provider_apify.client.failures import configuration
from airflow_provider_apify.exceptions import ApifyConfigurationError

T = TypeVar("T")

_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
#: Text that is no template, whatever marks templates in the DAG's Jinja environment.
_PLAIN = re.compile(r"[\w\s.:,+-]*")


class LiteralsStayText:
    """
    For tasks whose template fields are text: keeps what is written without a template as it is.

    In a DAG with ``render_template_as_native_obj``, Airflow makes numbers of literals, too: 0.1 of ``"0.10"``.
    """

    def render_template(self, content: Any, context: Any, jinja_env: Any = None, seen_oids: Any = None) -> Any:
        rendered = super().render_template(content, context, jinja_env, seen_oids)  # type: ignore[misc]
        if not isinstance(content, str) or isinstance(rendered, str):
            return rendered
        env = jinja_env or self.get_template_env()  # type: ignore[attr-defined]
        return (
            rendered
            if any(mark in content for mark in (env.variable_start_string, env.block_start_string))
            else content
        )


def now_or_rendered(read: Callable[[Any], T], value: Any) -> T:
    """
    Read an argument now, or leave it to be read when it has been rendered: a template, another task's output.

    :raises ApifyConfigurationError: it is neither, and ``read`` refuses it.
    """
    late = callable(value) or hasattr(value, "resolve") or (isinstance(value, str) and not _PLAIN.fullmatch(value))
    return value if late else read(value)


def given(value: Any) -> Any:
    """Give ``None`` for what a template makes of nothing."""
    return None if isinstance(value, str) and value.strip() in ("", "None") else value


def digits(value: Any) -> Any:
    """Give the digits of a whole number, as which native rendering reads an id or a tag such as ``20261123``."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def switch(name: str, value: Any) -> bool:
    """
    Read a switch that takes no template: a bool, or the words true and false.

    :raises ApifyConfigurationError: it is something else, which Python might take for true.
    """
    found = None if hasattr(value, "resolve") else _true_or_false(value)
    if found is None:
        raise ApifyConfigurationError(
            f"{name} must be True or False, got {value!r}. It is read when Airflow parses the DAG: neither a template"
            " nor another task can give it."
        )
    return found


def deferrable(value: Any) -> bool:
    """Read a ``deferrable``, ``None`` for Airflow's setting."""
    if value is None:
        return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
    return switch("deferrable", value)


def rendered_switch(name: str, value: Any) -> bool | None:
    """
    Read a switch that a template may have turned into text; ``"False"`` is not true.

    :raises ApifyConfigurationError: it is something else than a bool, the words, or nothing.
    """
    value = given(value)
    found = _true_or_false(value)
    if found is None and value is not None:
        raise ApifyConfigurationError(f"{name} must be true or false, got {value!r}")
    return found


def seconds(timeout: Any) -> float | None:
    """
    Read a ``timeout``: a number of seconds from 0, also as text, a ``timedelta``, or nothing.

    :raises ApifyConfigurationError: it is something else.
    """
    value = timeout.total_seconds() if isinstance(timeout, timedelta) else _number(timeout)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ApifyConfigurationError(f"timeout must be a timedelta or a number of seconds from 0, got {timeout!r}")
    return value


def wait_for_finish(value: Any) -> int | None:
    """
    Read a ``wait_for_finish``: a whole number of seconds from 0 to 60, also as text, or nothing.

    :raises ApifyConfigurationError: it is something else.
    """
    number = _number(value)
    return checked(check_wait, int(number) if isinstance(number, float) and number.is_integer() else number)


def checked(check: Callable[[Any], T], value: Any) -> T:
    """Read an argument by a check of ``api``, whose ``ValueError`` becomes an ``ApifyConfigurationError``."""
    with configuration():
        return check(value)


def warn_of_no_effect(task_id: str, noun: str, **is_set: bool) -> str:
    """
    Warn, while the DAG is parsed, of arguments that have no effect since the task does not wait.

    :param noun: what the task starts, such as ``build``.
    :param is_set: name of an argument to whether it was given.
    :return: the same for the task's log, or an empty string.
    """
    names = " and ".join(name for name in is_set if is_set[name])
    if not names:
        return ""
    message = (
        f"Task {task_id} ignores {names}, since it does not wait: it ends when the {noun} has started, and does not"
        f" fail if the {noun} fails. Set wait_for_completion=True, or leave the argument out."
    )
    # The DAG's line: above are the constructors of two classes, each with Airflow's wrapper.
    warnings.warn(message, UserWarning, stacklevel=6)
    return message


def _true_or_false(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _number(value: Any) -> Any:
    """Give the number that a text holds, ``None`` for nothing, and anything else as it is."""
    value = given(value)
    if not isinstance(value, str) or not _NUMBER.fullmatch(value.strip()):
        return value
    return float(value) if "." in value else int(value)
