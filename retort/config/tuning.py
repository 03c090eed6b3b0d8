"""Values of a search's options to try on the validation set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from retort.config.base import Section
from retort.config.problems import shown
from retort.config.search import Search, SearchSection


def _number(value: Any) -> Any:
    """The value. Raises ValueError for what is no number, as a union would name each of its types in the path."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"must be a finite number, found {shown(value)}")
    return value


Values = Annotated[list[Annotated[int | float, BeforeValidator(_number)]], Field(min_length=1)]
"""Values of an option."""


class Grid(Section):
    """A search as it is written, and values of its options to try in all combinations."""

    search: Search
    values: dict[str, Values] = {}
    """Values by option."""
    table: str | None = None
    """Table of n-grams of the forms that need one and name none."""

    @model_validator(mode="after")
    def _values_fit(self) -> Grid:
        if problems := list(wrong_values(self.search, self.values, ("values",))):
            raise ValidationError.from_exception_data("values", problems)
        return self

    def forms(self) -> list[SearchSection]:
        """The search as it is written, and then with each combination of the values; each once."""
        written = self.search.model_dump()
        variants = (dict(zip(self.values, combination, strict=True)) for combination in product(*self.values.values()))
        forms = [self.search, *(type(self.search).model_validate(written | variant) for variant in variants)]
        # a section holds lists, and so is no key itself
        different = {form.model_dump_json(): form for form in forms}
        return [self._with_table(form) for form in different.values()]

    def _with_table(self, form: SearchSection) -> SearchSection:
        return form.model_copy(update={"table": self.table}) if form.counted else form


def wrong_values(
    search: SearchSection, values: Mapping[str, Sequence[int | float]], where: tuple[str, ...]
) -> Iterator[InitErrorDetails]:
    """Errors of options that a search does not have, and of values that they cannot have. ``where`` leads to them."""
    # a search that is wrong itself holds values of other types
    written, able = search.model_dump(warnings=False), _numbers(search)
    for option, tried in values.items():
        if option not in able:
            message = f"{search.kind} has no number of this name; it has {' or '.join(able) or 'none'}"
            yield wrong((*where, option), tried, message)
            continue
        for index, value in enumerate(tried):
            # no search has options that depend on each other, so that combinations of right values are right
            try:
                type(search).model_validate(written | {option: value})
            except ValidationError as error:
                for detail in error.errors():
                    if detail["loc"][:1] == (option,):
                        yield InitErrorDetails(
                            type=detail["type"], loc=(*where, option, index), input=value, ctx=detail.get("ctx", {})
                        )


def wrong(where: tuple[str, ...], value: Any, message: str) -> InitErrorDetails:
    """An error of a key of a section, for a validator of the whole section."""
    return InitErrorDetails(type="value_error", loc=where, input=value, ctx={"error": ValueError(message)})


def _numbers(search: SearchSection) -> list[str]:
    """The options whose values are numbers."""
    fields = type(search).model_fields.items()
    return [name for name, field in fields if {int, float} & set(get_args(field.annotation) or [field.annotation])]
