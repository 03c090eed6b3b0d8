"""What every section of the configuration is made of."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.annotated_handlers import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
"""A share of a count, such as 2% or 0.5 %."""


@cache
def meanings(section: type[BaseModel]) -> dict[str, str]:
    """What the text below each key of a section says, by key.

    Pydantic would read all sources for that whenever a process imports the sections, which takes a third of the time.
    """
    found: dict[str, str] = {}
    for part in reversed(section.__mro__):
        if not issubclass(part, Section) or part is Section:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(definition, ast.ClassDef)
        for line, below in pairwise([*definition.body, ast.Pass()]):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                found.pop(line.target.id, None)
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    found[line.target.id] = inspect.cleandoc(str(below.value.value))
    return {key: meaning for key, meaning in found.items() if key in section.model_fields}


@dataclass(frozen=True)
class ShortForm:
    """Lets a section be written as the value of one key: ``objective: ctc`` is ``objective: {name: ctc}``."""

    key: str

    def expanded(self, value: Any) -> Any:
        """The section that ``value`` is short for; ``value`` itself if it is not text."""
        return {self.key: value} if isinstance(value, str) else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.expanded, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        section = handler(schema)
        names = [*section.get("discriminator", {}).get("mapping", ())]
        return {"anyOf": [section, {"type": "string", **({"enum": names} if names else {})}]}


class OneOrSeveral:
    """Lets a list be written as its only element."""

    @staticmethod
    def listed(value: Any) -> Any:
        return [value] if isinstance(value, str | dict) else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several, several["items"]]}


@dataclass(frozen=True)
class ShareOf:
    """Lets a count be written as a share of another key of its section, such as 10%."""

    whole: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "string", "pattern": f"^{SHARE.pattern}$"}]}


def count_of(value: int | str, whole: int) -> int:
    """A count, or the share of ``whole`` that the text ``value`` names: at least 1."""
    if isinstance(value, int):
        return value
    share = SHARE.fullmatch(value)
    assert share, value
    return max(1, round(whole * float(share[1]) / 100))


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, text and truth values are no numbers, numbers
    are finite, and values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _counts_of_shares(cls, values: Any) -> Any:
        """Shares of other keys as counts; what is no share stays, so that the validation can name it."""
        if not isinstance(values, dict):
            return values
        counts = {}
        for name, field in cls.model_fields.items():
            for mark in field.metadata:
                value = values.get(name)
                if isinstance(mark, ShareOf) and isinstance(value, str) and SHARE.fullmatch(value):
                    whole = values.get(mark.whole, cls.model_fields[mark.whole].default)
                    if isinstance(whole, int):
                        counts[name] = count_of(value, whole)
        return {**values, **counts}

    @classmethod
    def only_value(cls, key: str) -> str:
        """The one value that the key can have, such as the ``kind`` that selects the section."""
        return str(get_args(cls.model_fields[key].annotation)[0])

    @classmethod
    def marked(cls, mark: type) -> list[str]:
        """Keys that have such a mark in their annotation."""
        fields = cls.model_fields.items()
        return [key for key, field in fields if any(isinstance(own, mark) for own in field.metadata)]

    @property
    def without_effect(self) -> dict[str, str]:
        """Keys that have no effect beside the others of this section, with the reason."""
        return {}

    @property
    def idle(self) -> dict[str, str]:
        """Those of them that are set."""
        return {key: reason for key, reason in self.without_effect.items() if key in self.changed}

    @property
    def changed(self) -> list[str]:
        """Keys whose value is not the usual one."""
        fields = type(self).model_fields.items()
        return [key for key, field in fields if getattr(self, key) != field.get_default(call_default_factory=True)]


class ShapesWeights:
    """Marks a key that the weights of a model depend on, in the key's annotation."""


class ChangesNoWeight:
    """Marks a key on which no weight of a training that ends well depends, in the key's annotation."""


Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
NAME_PATTERN, LONGEST_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*", 100
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$", max_length=LONGEST_NAME)]
"""Name of a run, a system, a search or a test set. It becomes part of the names of files."""


def _without_dot(path: str) -> str:
    while path.startswith("./") and len(path) > 2:
        path = path[2:].lstrip("/")
    return path


FilePath = Annotated[str, AfterValidator(_without_dot)]
"""A path, or an address, without "./" at its beginning, of which Snakemake warns."""


def _are_seeds(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} repeats a seed; give each once")
    if any(not 0 <= seed < 2**63 for seed in seeds):
        raise ValueError(f"{seeds}: seeds are 0 or above, and below 2 to the 63")
    return seeds


Seeds = Annotated[list[int], AfterValidator(_are_seeds)]
