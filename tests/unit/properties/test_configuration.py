"""Whatever a configuration or a command line holds, it is accepted or refused in one clear error."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort import cli
from retort.config import Config
from retort.config.base import Section
from retort.config.load import load_config, to_json
from retort.errors import RetortError
from tests.unit.properties.strategies import few, values

BASE = {
    "name": "n",
    "corpus": {"kind": "generated"},
    "teacher": {"objective": {"name": "autoregressive"}},
    "students": {"s": {"objective": {"name": "ctc"}}},
}
SECTIONS = sorted(Config.model_fields)


def accepted(raw: object) -> Config | None:
    """The configuration, or None if it is refused with an error that says where to read on."""
    try:
        config = load_config(raw)  # type: ignore[arg-type]
    except RetortError as error:
        assert "docs/configuration.md" in str(error) and "problem" in str(error)
        return None
    return config


@pytest.mark.slow
@few
@given(st.dictionaries(st.sampled_from(SECTIONS) | st.text(max_size=8), values, max_size=4))
def test_any_sections_are_accepted_or_refused(sections):
    accepted({**BASE, **sections})


@pytest.mark.slow
@few
@given(st.sampled_from(SECTIONS), st.data())
def test_any_value_of_any_key_is_accepted_or_refused(section, data):
    model = Config.model_fields[section].default
    keys = sorted(type(model).model_fields) if isinstance(model, Section) else ["name"]
    key = data.draw(st.sampled_from(keys))
    accepted({**BASE, section: {key: data.draw(values)}})


@few
@given(st.integers(1, 500), st.floats(1e-5, 1), st.sampled_from(["BLEU", "chrF", "loss"]), st.booleans())
def test_an_accepted_configuration_comes_back_from_its_json(updates, rate, select_by, joint):
    raw = {
        **BASE,
        "training": {"max_updates": updates + 2000, "learning_rate": rate, "select_by": select_by},
        "vocabulary": {"joint": joint},
        "model": {"tied": "all" if joint else "output"},
    }
    config = accepted(raw)
    assert config is not None and accepted(json.loads(to_json(config))) == config


def status_of(*arguments: str) -> tuple[int, str]:
    """Exit status and standard error of the command line."""
    errors = io.StringIO()
    with (
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())),
        mock.patch.object(sys, "argv", ["retort", *arguments]),
    ):
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), errors.getvalue()
    return 0, errors.getvalue()


@few
@given(st.binary(max_size=60) | st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.encode))
def test_checking_any_file_ends_in_one_error(content):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "c.yaml")
        path.write_bytes(content)
        status, errors = status_of("check", str(path))
    assert status == 2 and errors.startswith("error: retort: ") and "Traceback" not in errors


@few
@given(st.lists(st.sampled_from(["translate", "export", "check", "--model", "--batch-size", "0", "-1", "x"])
                | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6), max_size=5))  # fmt: skip
def test_any_command_line_ends_with_a_status(arguments):
    status, errors = status_of(*arguments)
    assert status in (0, 2) and "Traceback" not in errors
