"""Pages that are followed from top to bottom, as by a reader who types what they say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from rig.waiting import free_ports
from tests.docs.conftest import users_environment
from tests.docs.samples import ROOT, samples

EMULATOR = "-m airflow_provider_apify.emulator"


def test_the_quick_start_leads_to_a_green_run(tmp_path: Path) -> None:
    said = follow("docs/quick-start.md", tmp_path)
    (expected,) = (each for each in samples() if (each.page, each.language) == ("docs/quick-start.md", "text"))
    assert [line for line in expected.text.splitlines() if not re.search(with_any_figures(line), said)] == []


def test_the_tests_of_the_testing_guide_pass(tmp_path: Path) -> None:
    assert "2 passed" in follow("docs/guides/testing.md", tmp_path)


def test_the_emulator_can_be_used_as_its_page_says(tmp_path: Path) -> None:
    follow("docs/emulator.md", tmp_path)


def test_the_page_on_apifys_api_names_what_is_in_the_code() -> None:
    page = (ROOT / "docs/apify-api.md").read_text()
    used = [
        re.findall(r"`(.+?)`", each) for each in re.findall(r"\*Used in\* ((?:`.+?`(?:, )?)+)", " ".join(page.split()))
    ]
    assert len(used) == page.count("\n### ")
    code = "".join(path.read_text() for path in ROOT.joinpath("airflow_provider_apify").rglob("*.py"))
    assert [name for names in used for name in names if name not in code] == []


def follow(page: str, home: Path) -> str:
    """Write the files that a page gives, run its commands and its Python, and give all that these print."""
    environment = users_environment(home)
    said = exports = ""
    port = str(free_ports(1)[0])
    with ExitStack() as running:
        for sample in (each for each in samples() if each.page == page and not each.not_run):
            sample = replace(sample, text=sample.text.replace("3333", port))
            if sample.title:
                file = home / sample.title.removeprefix("~/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(sample.text)
            elif EMULATOR in sample.commands:
                running.enter_context(emulator(sample.commands, port, environment))
            elif sample.language in ("sh", "console", "python"):
                shell = ["bash", "-euo", "pipefail", "-c", exports + sample.commands]
                command = ["python", "-c", sample.text] if sample.language == "python" else shell
                ended = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
                assert ended.returncode == 0, f"{sample}\n{ended.stdout}{ended.stderr}"
                said += ended.stdout + ended.stderr
                exported = re.findall(r"^export (?:[^'\n]|'[^']*')*", sample.commands, flags=re.MULTILINE)
                exports += "".join(f"{each}\n" for each in exported)
    return said


@contextmanager
def emulator(command: str, port: str, environment: dict[str, str]) -> Iterator[None]:
    """Start the emulator as in another terminal, and end it when the page is done with."""
    # Its usual port may be taken here.
    arguments = [*command.split(), *([] if "--port" in command else ["--port", port])]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == f"http://127.0.0.1:{port}\n"
            yield
        finally:
            process.terminate()


def with_any_figures(line: str) -> str:
    """A pattern for a line of output in which ids and whatever has a digit in it may differ."""
    return re.sub(r"\S*\d\S*|\(\w{17}\)", ".+", line)
