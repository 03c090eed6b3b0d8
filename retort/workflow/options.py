"""What the jobs of a run are given on their command lines: options, and sections of the configuration as JSON.

Each job gets only what it depends on, so that a change elsewhere in the configuration does not run it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any

from retort.config import EXTERNAL, Beam, em_student
from retort.config.base import Section
from retort.config.external import JUDGING
from retort.data.runs import Run
from retort.evaluation.runs import counterparts, data_pairs
from retort.workflow.plan import Plan


class Options:
    """Command-line parts of the jobs of ``plan``; an option that a job does not have is an empty list."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.config

    # ---- options --------------------------------------------------------------------------------------------------

    def mirror(self) -> list[str]:
        """--mirror DIRECTORY, where the configuration names one."""
        mirror = self.config.corpus.mirror_directory
        return ["--mirror", mirror] if mirror else []

    def lengths(self) -> list[str]:
        """The longest sequence of the models, and whether sources are cut to it."""
        model = self.config.model
        return ["--max-length", str(model.max_length), *(["--truncate-sources"] if model.truncate_sources else [])]

    def monolingual_corpus(self) -> list[str]:
        """--corpus TABLE where the configuration names no text to pre-train on."""
        given = self.config.pretraining and self.config.pretraining.texts
        return [] if given else ["--corpus", *self.plan.monolingual_texts()]

    def vocabulary_outputs(self) -> list[str]:
        """--outputs TABLES where the target side of the vocabulary is given outputs."""
        outputs = self.plan.vocabulary_outputs()
        return ["--outputs", *outputs] if outputs else []

    def start(self, system: str, seed: int) -> list[str]:
        """--start DIRECTORY of a training that starts from a checkpoint."""
        run = self.plan.starting_run(system, seed)
        return ["--start", self.plan.layout.checkpoint_directory(run.system, run.seed)] if run else []

    def teacher(self, system: str) -> list[str]:
        """--teacher DIRECTORY of a training that asks the teacher."""
        return self._teacher() if self.config.trained[system].objective.needs_teacher else []

    def rescoring(self, system: str, search: str) -> list[str]:
        """--teacher DIRECTORY of a search whose candidates the teacher scores."""
        return self._teacher() if self.config.systems[system].asks_teacher(search) else []

    def _teacher(self) -> list[str]:
        return ["--teacher", self._teacher_directory()]

    def _teacher_directory(self) -> str:
        run = self.plan.first_run("teacher")
        return self.plan.layout.checkpoint_directory(run.system, run.seed)

    def agreement(self, system: str, seed: int) -> list[str]:
        """--agreement FILE of a training whose targets another system chooses."""
        run = self.plan.evaluating_run(system, seed)
        return ["--agreement", self.plan.layout.agreement(run)] if run else []

    def labels(self, system: str) -> list[str]:
        """--labels FILE of a training that reads the teacher's labels."""
        labels = self.plan.stored_labels(system)
        return ["--labels", labels] if labels else []

    def held_out(self, path: str) -> list[str]:
        """How many pairs train no parallel model, and the file they go to."""
        return ["--held-out", str(self.config.em.held_out), "--output-held-out", path]

    def iteration_held_out(self, iteration: int, seed: int) -> list[str]:
        """The same of an EM iteration from 2 on."""
        return self.held_out(f"{self.plan.layout.iteration(iteration, seed)}/held_out.parquet")

    def language(self) -> list[str]:
        """--language SECTION where the right translations are known."""
        return ["--language", self.corpus()] if self.config.corpus.knows_right_translations else []

    def decoder(self) -> list[str]:
        """System, seed and search of the teacher's translations, which are columns of their table."""
        return _decoder(self.plan.first_run("teacher"), "distillation")

    def candidate_decoder(self, iteration: int, seed: int) -> list[str]:
        """The same of an EM iteration's candidates."""
        return _decoder(self.plan.candidate_run(iteration, seed), "candidates")

    def iteration_decoder(self, iteration: int, seed: int) -> list[str]:
        """The same of the translations that are an EM iteration's training text."""
        return _decoder(self.plan.corpus_run(iteration, seed), "distillation")

    def shard(self, scatteritem: str) -> list[str]:
        """Number of a shard, from 0, and number of shards, of a scatter item such as 2-of-4."""
        number, _, shards = scatteritem.partition("-of-")
        return ["--shard", str(int(number) - 1), "--shards", shards]

    def learned(self, metric: str) -> str:
        """The section of a learned metric, as JSON."""
        return self.config.evaluation.learned[metric].model_dump_json()

    def learned_scores(self, system: str, seed: int, search: str) -> list[str]:
        """--learned FILES with the segment scores of a decoding, where there are learned metrics."""
        return _learned(self.plan.segment_scores(system, seed, search))

    def all_learned_scores(self) -> list[str]:
        """The same of every decoding."""
        return _learned(self.plan.all_segment_scores())

    def pairs(self) -> list[str]:
        """--pair TRANSLATIONS BASELINE for each of ``compared``."""
        paths = (map(self.plan.layout.translations, pair) for pair in self.compared())
        return [part for pair in paths for part in ("--pair", *pair)]

    def compared(self) -> list[tuple[Run, Run]]:
        """Pairs of runs to compare besides those with the baseline of all, seed by seed.

        Systems that differ in their training data only; the iterations of the EM loop, each search with the same one
        of the first iteration; those that evaluation.baselines names; and all with what quality is judged by, and with
        what speed-ups are over.
        """
        differing = data_pairs(self.config.systems)
        pairs = [(distilled, raw, self.plan.first_search(distilled)) for raw, distilled in differing]
        em = self.config.em
        pairs += [(em_student(t), em_student(1), s) for t in range(2, em.iterations + 1) for s in em.student.searches]
        runs = set(self.plan.runs())
        compared = [
            (Run(system, seed, search), Run(baseline, seed, search))
            for system, baseline, search in pairs
            for seed in self.config.seeds_of(system)
            if {Run(system, seed), Run(baseline, seed)} <= runs
        ]
        baselines = self.config.evaluation.baselines
        for run in self.plan.decodings(baselines):
            for name, search in counterparts(run.search, baselines[run.system], self.config.searches_of):
                baseline = Run(name, self.plan.run_of(name, run.seed).seed, search)
                if baseline != run:
                    compared.append((run, baseline))
        for key in dict.fromkeys((self.config.original, self.config.reference)):
            compared += self._compared_with(*key)
        return compared

    def _compared_with(self, name: str, search: str) -> list[tuple[Run, Run]]:
        """All runs with a system's of the same seed or the first one, unless that is the baseline."""
        pairs = [(run, Run(name, self.plan.run_of(name, run.seed).seed, search)) for run in self.plan.decodings()]
        common = self.plan.baseline_run()
        return [(run, opponent) for run, opponent in pairs if opponent not in (run, common)]

    # ---- numbers --------------------------------------------------------------------------------------------------

    def data(self, system: str) -> str:
        """What a system is trained on, by the name that the configuration has for it."""
        return EXTERNAL if system == EXTERNAL else self.config.trained[system].data

    def beam_size(self) -> int:
        """Hypotheses of each source in the teacher's beam."""
        search = self.config.distillation.search
        return search.beam_size if isinstance(search, Beam) else 1

    # ---- sections of the configuration ----------------------------------------------------------------------------

    def section(self, path: str, *keys: str, without: Collection[str] = ()) -> str:
        """A section of the configuration, such as "em.guards", as JSON; only the named keys, if any are named."""
        section: Section = reduce(getattr, path.split("."), self.config)
        value = section.model_dump(mode="json", exclude_none=True, exclude=set(without))
        # a null is left out where it is the default, and only there
        fields = type(section).model_fields.items()
        value |= {key: None for key, field in fields if key not in {*value, *without} and field.default is not None}
        return as_json({key: value[key] for key in keys or value if key in value})

    def corpus(self) -> str:
        """Of the corpus, what its tables depend on."""
        return self.section("corpus", without=self.config.corpus.local_keys)

    def pretraining(self, key: str) -> str:
        """A key of the section pretraining, as JSON."""
        section = self.config.pretraining
        return as_json(section.model_dump(mode="json", exclude_none=True)[key] if section else None)

    def external_teacher(self) -> str:
        """The external teacher, whole."""
        section = self.config.external_teacher
        return as_json(section.model_dump(mode="json") if section else None)

    def timed_external(self) -> list[str]:
        """--external SECTION --vocabulary DIRECTORY where the external teacher is timed."""
        directory = os.path.dirname(self.plan.layout.vocabulary()["vocabulary"])
        timed = self.config.external_is_timed
        return ["--external", self.external_teacher(), "--vocabulary", directory] if timed else []

    def asked_about_training(self) -> str:
        """What the external teacher's outputs of the training text depend on."""
        return self._asked(("train",))

    def asked_about_tests(self) -> str:
        """The same of the test sets."""
        return self._asked(self.config.corpus.test_names)

    def asked_about_held_out(self) -> str:
        """The same of validation and test sets without references."""
        return self._asked(self.config.filled)

    def timed_about_tests(self) -> str:
        """What the external teacher's times of the test sets depend on."""
        section, splits = self.config.external_teacher, self.config.corpus.test_names
        if section is None:
            return as_json(None)
        how = section.model_dump(mode="json", include=set(section.timing_keys))
        return as_json(section.asked_about(splits) | how)

    def _asked(self, splits: Collection[str]) -> str:
        section = self.config.external_teacher
        return as_json(section.asked_about(splits) if section else None)

    def judging(self) -> str:
        """How these are judged."""
        section = self.config.external_teacher
        return as_json(section.model_dump(mode="json", include=set(JUDGING)) if section else None)

    def system(self, system: str, left_out: Mapping[str, set[str]] | None = None) -> str:
        """What a training is given: not its name, and of its searches only the first one, which validates."""
        section = self.config.trained[system]
        excluded: dict[str, bool | set[str]] = dict.fromkeys(("seeds", "checkpoint", "searches", "tune"), True)
        value = section.model_dump(mode="json", exclude=excluded | dict(left_out or {}))
        search = section.searches[self.plan.first_search(system)].model_dump(mode="json")
        return as_json({**value, "searches": {"validation": search}})

    def deciding(self, system: str) -> str:
        """Of that, what a training's result depends on."""
        return self.system(system, left_out=self.config.trained[system].changes_no_weight)

    def decoding_search(self, system: str, seed: int, search: str) -> str:
        """What the tests are decoded with: a search of a system, or the file of its tuned form."""
        tuned = self.plan.tuned_files(system, seed, search)
        return f"@{tuned[0]}" if tuned else self.search(system, search)

    def tried_searches(self, system: str, search: str) -> str:
        """A search and the values of its options that are tried on the validation set: all forms of it would be too
        long for a command line."""
        grid = self.config.systems[system].grid(search).model_dump(mode="json")
        tables = self.plan.ngrams.files_of(system, search)
        return as_json(grid | {"table": tables[0] if tables else None})

    def search(self, system: str, search: str) -> str:
        """A search of a system."""
        return as_json(self._with_table(system, search))

    def _with_table(self, system: str, search: str) -> dict[str, Any]:
        """A search as a job gets it: with the table of its n-grams, if it needs one."""
        written = self.config.systems[system].searches[search]
        tables = self.plan.ngrams.files_of(system, search) if written.counted else []
        return written.model_dump(mode="json") | ({"table": tables[0]} if tables else {})

    def counting(self, table: str) -> list[str]:
        """What a table of n-grams is counted from, and how."""
        counted, files = self.plan.ngrams.counted()[table]
        texts = as_json([text.model_dump(mode="json") for text in counted.texts])
        text = ["--texts", texts] if counted.texts else ["--train", *files]
        if held_out := self.plan.ngrams.held_out(table):
            text += ["--held-out", *held_out]
        return [*text, "--order", str(counted.order), "--most", str(counted.most)]

    def candidates(self) -> str:
        """Decoding of candidates, as a section like distillation."""
        em, search = self.config.em, self.plan.candidate_search().model_dump(mode="json")
        engine = self.config.distillation.engine if em.precision == "float32" else "torch"
        section = {"search": search, "batch_tokens": em.batch_tokens, "precision": em.precision, "engine": engine}
        return as_json(section)

    def timed_systems(self) -> str:
        """The systems to time, each with one seed and all its searches."""
        return as_json([self._timed(run) for run in self.plan.timed_runs()])

    def _timed(self, run: Run) -> dict[str, Any]:
        tuned = self.plan.tuned_files(run.system, run.seed, run.search)
        return {
            "system": run.system,
            "seed": run.seed,
            "checkpoint": self.plan.layout.checkpoint_directory(run.system, run.seed),
            "search_name": run.search,
            "search": f"@{tuned[0]}" if tuned else self._with_table(run.system, run.search),
            "teacher": self._teacher_directory() if self.config.systems[run.system].asks_teacher(run.search) else None,
        }


def _learned(files: list[str]) -> list[str]:
    return ["--learned", *files] if files else []


def _decoder(run: Run, search: str) -> list[str]:
    return ["--system", run.system, "--seed", str(run.seed), "--search-name", search]


def as_json(value: Any) -> str:
    """JSON on one line, letters of any script as they are."""
    return json.dumps(value, ensure_ascii=False)
