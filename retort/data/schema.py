"""What the schema of a table is made of."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, whether it may be null, its unit and what it holds."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A named, versioned schema."""

    name: str
    version: int
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.columns]
