"""Arguments of operators and sensors: as a DAG gives them, as templates render them, as other tasks hand them over."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
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
    For tasks with template fields: keeps text that is written without a template as it is, and says where one is wrong.

    In a DAG with ``render_template_as_native_obj``, Airflow makes numbers of literals, too: 0.1 of ``"0.10"``. In any
    other, Jinja takes the last line break and what looks like a comment.
    """

    def render_template(self, content: Any, context: Any, jinja_env: Any = None, seen_oids: Any = None) -> Any:
        from jinja2 import TemplateError

        env = jinja_env or self.get_template_env()  # type: ignore[attr-defined]
        if isinstance(content, str) and not (env.variable_start_string in content or env.block_start_string in content):
            return content
        try:
            return super().render_template(content, context, env, seen_oids)  # type: ignore[misc]
        except Exception as error:
            if not isinstance(content, str):
                raise  # it is of a text within
            fields: Sequence[str] = self.template_fields  # type: ignore[attr-defined]
            places = (_place(getattr(self, name, None), content, name) for name in fields)
            what = f"The template in {next(filter(None, places), 'an argument')} cannot be rendered: {error}."
            if not isinstance(error, (TemplateError, TypeError, ValueError, ArithmeticError)):
                # Such as a variable or connection that Airflow could not read now.
                self.log.error("%s", what)  # type: ignore[attr-defined]
                raise
            raise ApifyConfigurationError(
                f"{what}\nIf it is no template, wrap the text: literal(...), from airflow.providers.common.compat.sdk."
            ) from None


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


def number(value: Any) -> Any:
    """
    Give the number that a text holds, that of seconds for a ``timedelta``, ``None`` for nothing, and anything else as
    it is. A whole number is an ``int``.
    """
    value = given(value)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


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


def seconds(given: Any, *, name: str = "timeout") -> float | None:
    """
    Read how long to wait: a number of seconds from 0, also as text, a ``timedelta``, or nothing.

    :raises ApifyConfigurationError: it is something else.
    """
    value = number(given)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ApifyConfigurationError(f"{name} must be a timedelta or a number of seconds from 0, got {given!r}")
    return value


def wait_for_finish(value: Any) -> int | None:
    """
    Read a ``wait_for_finish``: a whole number of seconds from 0 to 60, also as text, or nothing.

    :raises ApifyConfigurationError: it is something else.
    """
    return checked(check_wait, number(value))


def min_items(value: Any) -> int | None:
    """
    Read a ``min_items``: a whole number from 1, also as text, or nothing.

    :raises ApifyConfigurationError: it is something else.
    """
    read = number(value)
    if read is None or (isinstance(read, int) and not isinstance(read, bool) and read >= 1):
        return read
    raise ApifyConfigurationError(f"min_items must be a whole number of items from 1, or left out; got {value!r}")


def checked(check: Callable[[Any], T], value: Any) -> T:
    """Read an argument by a check of ``api``, whose ``ValueError`` becomes an ``ApifyConfigurationError``."""
    with configuration():
        return check(value)


def warn_of_no_effect(task_id: str, noun: str, *, constructors: int, **is_set: bool) -> str:
    """
    Warn, while the DAG is parsed, of arguments that have no effect since the task does not wait.

    :param noun: what the task starts, such as ``build``.
    :param constructors: how many classes' constructors have been called to come here.
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
    # The DAG's line: above are the constructors, each with Airflow's wrapper.
    warnings.warn(message, UserWarning, stacklevel=2 + 2 * constructors)
    return message


def _place(value: Any, leaf: str, path: str) -> str | None:
    """Give the path at which ``value`` holds ``leaf``, such as ``run_input['pageFunction']``."""
    if value is leaf:
        return path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    found = (_place(each, leaf, f"{path}[{key!r}]") for key, each in items)
    return next(filter(None, found), None)


def _true_or_false(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None
