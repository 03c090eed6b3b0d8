"""Tables of n-grams: which ones the searches of a run need, and what they are counted from."""

from __future__ import annotations

from retort.config import Config, Ngrams, NgramSearch
from retort.config.files import local_files
from retort.data.provenance import value_digest
from retort.filenames import VALID, table_name
from retort.workflow.layout import Layout


class NgramTables:
    """The tables of n-grams of a run. Searches that count the same have the same table."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self.config = config
        self.layout = layout

    def counted(self) -> dict[str, tuple[Ngrams, list[str]]]:
        """All tables by name: what is counted, and the files it is read from."""
        named = {}
        for system, section in self.config.systems.items():
            for search in section.searches:
                if counted := section.counted_by(search):
                    named[self._table(system, counted)] = (counted, self._texts(system, counted))
        return named

    def files(self) -> list[str]:
        """All tables, those that are given by their paths included."""
        systems = self.config.systems.items()
        files = [file for name, system in systems for search in system.searches for file in self.files_of(name, search)]
        return list(dict.fromkeys(files))

    def files_of(self, system: str, search: str) -> list[str]:
        """The table that a search needs, in any of the forms that are tried."""
        section = self.config.systems[system]
        written = section.searches[search]
        if isinstance(written, NgramSearch) and written.table:
            return [written.table]
        counted = section.counted_by(search)
        return [self.layout.ngrams(self._table(system, counted))] if counted else []

    def texts(self, table: str) -> list[str]:
        """Files that a table is counted from. Texts that are downloaded are no files yet."""
        return self.counted()[table][1]

    def held_out(self, table: str) -> list[str]:
        """Corpus tables whose texts are left out of the texts that a table is counted from."""
        cleaned = self.counted()[table][0].texts and self.config.cleaning.drop_leaks
        return [f"{self.layout.root}/corpus/{table_name(VALID)}", *self.layout.tests()] if cleaned else []

    def _table(self, system: str, counted: Ngrams) -> str:
        texts = [text.model_dump(mode="json") for text in counted.texts]
        what = f"texts-{value_digest(texts)[:12]}" if texts else self._data(system, counted)
        return f"{what}.order{counted.order}.most{counted.most}"

    def _texts(self, system: str, counted: Ngrams) -> list[str]:
        if counted.texts:
            return local_files(counted.texts, self.config)
        return [self.layout.text(self._data(system, counted))]

    def _data(self, system: str, counted: Ngrams) -> str:
        own = self.config.systems[system].data
        return counted.data or (own if own in self.layout.texts() else "raw")
