"""The plan of a run: what is trained, decoded and measured, and which files each rule reads.

It knows nothing of Snakemake. How far the EM loop goes is known only while the run is under way; the workflow passes
a function that reads the guards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from retort.config import EXTERNAL, PRETRAINED, Beam, Config, NgramSearch, em_iteration, em_student, em_teacher
from retort.config.files import local_files
from retort.data.runs import Run
from retort.filenames import table_name
from retort.workflow.layout import Layout
from retort.workflow.ngram_tables import NgramTables

Verdicts = Callable[[int], Mapping[int, str]]
"""For an EM iteration from 2 on: per seed that reached the one before, why the loop ends, or nothing if it goes on."""


class Plan:
    """What runs in the run ``config`` whose files are below ``root``."""

    def __init__(self, config: Config, root: str, verdicts: Verdicts) -> None:
        self.config = config
        self.layout = Layout(config, root)
        self.verdicts = verdicts
        self.ngrams = NgramTables(config, self.layout)

    # ---- systems, seeds, searches ---------------------------------------------------------------------------------

    def runs(self, systems: Iterable[str] | None = None) -> list[Run]:
        """Every system (of the named ones) with each of its seeds; of the EM loop as far as it goes."""
        return [
            Run(system, seed)
            for system in (self.config.systems if systems is None else systems)
            for seed in self.config.seeds_of(system)
            if self.loop_reaches(em_iteration(system), seed)
        ]

    def decodings(self, systems: Iterable[str] | None = None) -> list[Run]:
        """Every system (of the named ones) with each of its seeds and searches."""
        return [
            Run(run.system, run.seed, search)
            for run in self.runs(systems)
            for search in self.config.systems[run.system].searches
        ]

    def first_run(self, system: str) -> Run:
        """A system with its first seed; of the teacher, the one that distils, scores and labels."""
        return Run(system, self.config.seeds_of(system)[0])

    def run_of(self, system: str, seed: int) -> Run:
        """A system with a seed, or with its first one where it is not trained with that."""
        return Run(system, seed) if seed in self.config.seeds_of(system) else self.first_run(system)

    def first_search(self, system: str) -> str:
        """Name of the search that represents a system in comparisons and validates it."""
        return self.config.searches_of(system)[0]

    def selective(self) -> list[str]:
        """Systems whose targets another system chooses."""
        return [name for name, s in self.config.systems.items() if s.mixture and s.mixture.kind == "selective"]

    def starting_run(self, system: str, seed: int) -> Run | None:
        """The run whose checkpoint a training starts from, if it starts from one."""
        start, iteration = self.config.trained[system].training.warm_start, em_iteration(system)
        if start == "none":
            return None
        if start == PRETRAINED:
            return self.first_run(PRETRAINED)
        if start == "teacher_encoder":
            return self.first_run("teacher")
        if start != "previous":
            return self.run_of(start, seed)
        if system == em_teacher(iteration):
            return self.corpus_run(iteration - 1, seed)
        return Run(em_student(iteration - 1), seed)

    def evaluating_run(self, system: str, seed: int) -> Run | None:
        """The run that chooses among the two targets of each source, if one does."""
        mixture = self.config.trained[system].mixture
        return self.run_of(mixture.evaluator, seed) if mixture and mixture.kind == "selective" else None

    # ---- the external teacher -------------------------------------------------------------------------------------

    def external(self) -> list[Run]:
        """The external teacher among the scored systems, if it is one."""
        scored = self.config.external_is_scored
        return [Run(EXTERNAL, self.first_run(EXTERNAL).seed, self.first_search(EXTERNAL))] if scored else []

    def files_about_training(self) -> list[str]:
        """Files that the external teacher reads to answer the training text."""
        return self._external_files(("train",))

    def files_about_tests(self) -> list[str]:
        """The same of the test sets."""
        return self._external_files(self.config.corpus.test_names)

    def files_about_held_out(self) -> list[str]:
        """The same of validation and test sets without references."""
        return self._external_files(self.config.filled)

    def _external_files(self, splits: Collection[str]) -> list[str]:
        """Files that the external teacher reads to answer these splits, those of directories one by one."""
        teacher = self.config.external_teacher
        given = [Path(path) for path in teacher.files_about(splits).values()] if teacher else []
        inside = (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] for path in given)
        return list(dict.fromkeys(str(path) for paths in inside for path in paths))

    def given_outputs(self) -> list[str]:
        """Tables of the distilled text that no teacher of this run makes, if it is such a text."""
        if self.config.external_teacher:
            return [self.layout.judged("judged")]
        return [self.config.distillation.corpus] if self.config.distillation.corpus else []

    def held_out_sources(self) -> list[str]:
        """Tables of the validation and test sets that are still without references."""
        return [self.layout.prepared(table_name(name)) for name in self.config.filled]

    def vocabulary_outputs(self) -> list[str]:
        """The given outputs that are the target side of the vocabulary, where there is no other."""
        return self.given_outputs() if "train" in self.config.corpus.unreferenced else []

    def timed_external_files(self) -> list[str]:
        """What its timing reads: its files, and the vocabulary that its tokens are counted with."""
        return [*self.files_about_tests(), *self.layout.vocabulary().values()] if self.config.external_is_timed else []

    def judgement(self) -> list[str]:
        """Counts of the external teacher's outputs that train, and of those that do not."""
        distils = any(s.data in ("distilled", "mixed", "em") for s in self.config.systems.values())
        return [self.layout.judged("judgement")] if self.config.external_teacher and distils else []

    # ---- the EM loop ----------------------------------------------------------------------------------------------

    def loop_reaches(self, iteration: int, seed: int) -> bool:
        """Whether the guards let the EM loop come to this iteration; iteration 0 is no part of it."""
        return not any(self.verdicts(t)[seed] for t in range(2, iteration + 1))

    def corpus_run(self, iteration: int, seed: int) -> Run:
        """The autoregressive run whose translations are an iteration's training text."""
        return Run(em_teacher(iteration), seed) if iteration > 1 else self.first_run("teacher")

    def candidate_run(self, iteration: int, seed: int) -> Run:
        """The autoregressive run whose candidates the next one is trained on: that of the iteration before."""
        return self.corpus_run(iteration - 1, seed)

    def candidate_search(self) -> Beam:
        """The search for candidates: the distillation's, with as wide a beam as there are candidates."""
        search, size = self.config.distillation.search, self.config.em.candidates
        if not isinstance(search, Beam):
            return Beam(kind="beam", beam_size=size)
        return search.model_copy(update={"beam_size": size})

    def candidate_checkpoint(self, iteration: int, seed: int) -> dict[str, str]:
        """The checkpoint that decodes an iteration's candidates."""
        run = self.candidate_run(iteration, seed)
        return self.layout.checkpoint(run.system, run.seed)

    def candidates(self, iteration: int, seed: int, scatteritem: str) -> str:
        """A shard of candidates; those of the first teacher are the same for all seeds."""
        seed = self.config.seeds_of(em_student(1))[0] if iteration == 2 else seed
        return f"{self.layout.iteration(iteration, seed)}/candidates/{scatteritem}.parquet"

    def scorers(self, iteration: int, seed: int) -> dict[str, Run]:
        """The runs that score an iteration's candidates."""
        return {
            "student": Run(em_student(iteration - 1), seed),
            "teacher": self.candidate_run(iteration, seed),
            "first": self.first_run("teacher"),
        }

    def scoring_files(self, iteration: int, seed: int) -> dict[str, str]:
        """Weights and descriptions of these."""
        return {
            f"{name}_{kind}": self.layout.checkpoint(run.system, run.seed)[kind]
            for name, run in self.scorers(iteration, seed).items()
            for kind in ("weights", "model")
        }

    def guards_of(self, iteration: int) -> list[str]:
        """Guards of an iteration, of every seed that came to the one before."""
        seeds = [seed for seed in self.config.seeds_of(em_student(1)) if self.loop_reaches(iteration - 1, seed)]
        return [f"{self.layout.iteration(iteration, seed)}/guards.parquet" for seed in seeds]

    def corpus_checkpoint(self, iteration: int, seed: int) -> dict[str, str]:
        """The checkpoint that translates the training text of an iteration."""
        run = self.corpus_run(iteration, seed)
        return self.layout.checkpoint(run.system, run.seed)

    # ---- what the rules read --------------------------------------------------------------------------------------

    def teacher_checkpoint(self) -> dict[str, str]:
        """The teacher that distils, scores and labels."""
        run = self.first_run("teacher")
        return self.layout.checkpoint(run.system, run.seed)

    def teacher_files(self) -> list[str]:
        """The same as a list, its weights first."""
        return list(self.teacher_checkpoint().values())

    def _teacher_inputs(self) -> dict[str, str]:
        """The same, by names that tell it from a rule's other inputs."""
        return {f"teacher_{kind}": path for kind, path in self.teacher_checkpoint().items()}

    def corpus_texts(self) -> list[str]:
        """Local text files of the corpus. Texts that are downloaded are no files yet."""
        return local_files(self.config.corpus.texts, self.config)

    def monolingual_texts(self) -> list[str]:
        """What is read to pre-train on: local text files, or the training corpus."""
        given = self.config.pretraining and self.config.pretraining.texts
        return local_files(given, self.config) if given else [f"{self.layout.root}/corpus/train.parquet"]

    def training_cost(self, system: str) -> int:
        """Roughly what a training takes, in million tokens times layers: the longest starts first, so that cores are
        not left without work at the end."""
        section = self.config.trained[system]
        layers = section.model.encoder_layers + section.objective.slots_per_token * section.model.decoder_layers
        return 1 + int(section.training.max_updates * section.training.batch_tokens * layers) // 1_000_000

    def training_files(self, system: str, seed: int) -> dict[str, str]:
        """What a training reads, by name, the checkpoints of other runs included."""
        pretrains = system == PRETRAINED
        files = {
            "train": self.training_text(system, seed),
            "valid": f"{self.layout.root}/{'pretraining' if pretrains else 'encoded'}/valid.parquet",
            **self.layout.vocabulary(),
        }
        if start := self.starting_run(system, seed):
            checkpoint = self.layout.checkpoint(start.system, start.seed)
            files |= {"start": checkpoint["weights"], "start_model": checkpoint["model"]}
        if self.config.trained[system].objective.needs_teacher:
            files |= self._teacher_inputs()
        if evaluator := self.evaluating_run(system, seed):
            files["agreement"] = self.layout.agreement(evaluator)
        if labels := self.stored_labels(system):
            files["labels"] = labels
        # tuned forms may use a counted table; the search as it is written, which validates, has at most a given one
        validating = self.config.trained[system].searches[self.first_search(system)]
        if isinstance(validating, NgramSearch) and validating.table:
            files["ngrams"] = validating.table
        return files

    def training_text(self, system: str, seed: int) -> str:
        """The encoded table that a system is trained on."""
        iteration = self.layout.iteration(em_iteration(system), seed)
        return {
            **self.layout.texts(),
            "mixed": f"{self.layout.root}/mixed/train.parquet",
            "references": f"{iteration}/train.parquet",
            "em": f"{iteration}/train.parquet",
            "selected": f"{iteration}/selected.parquet",
            "monolingual": f"{self.layout.root}/pretraining/train.parquet",
        }[self.config.trained[system].data]

    def stored_labels(self, system: str) -> str | None:
        """The table of the teacher's labels that a training reads, if it reads one."""
        section = self.config.trained[system]
        top_k = section.objective.stored_top_k
        return self.layout.labels(section.data, top_k) if top_k is not None else None

    def labelled_files(self, data: str) -> dict[str, str]:
        """A training text, and the teacher that labels it."""
        return {**self._teacher_inputs(), **self.layout.vocabulary(), "train": self.layout.text(data)}

    def rescoring_files(self, system: str, search: str) -> list[str]:
        """The teacher's checkpoint where it scores the candidates of a search, its weights first."""
        return self.teacher_files() if self.config.systems[system].asks_teacher(search) else []

    def tuned_files(self, system: str, seed: int, search: str) -> list[str]:
        """The file of a search whose options are chosen on the validation set."""
        tunes = search in self.config.systems[system].tune
        return [self.layout.tuned(Run(system, seed, search))] if tunes else []

    def timed_tuned_files(self) -> list[str]:
        """The same of all searches that are timed."""
        return [path for run in self.timed_runs() for path in self.tuned_files(run.system, run.seed, run.search)]

    def timed_runs(self) -> list[Run]:
        """What is timed: one seed of each system, with all its searches."""
        timed = self._timed_seeds()
        return [run for run in self.decodings() if run.seed == timed[run.system]]

    def _timed_seeds(self) -> dict[str, int]:
        """The first seed of each system that runs: guards may end the EM loop for its first seed alone."""
        seeds: dict[str, int] = {}
        for run in self.runs():
            seeds.setdefault(run.system, run.seed)
        return seeds

    def multimodality_files(self, system: str, seed: int) -> dict[str, str]:
        """A parallel system, and pairs of its training text that it has not seen."""
        if self.config.systems[system].data == "raw":
            pairs = f"{self.layout.root}/encoded/valid.parquet"
        else:
            pairs = f"{self.layout.iteration(em_iteration(system), seed)}/held_out.parquet"
        return {**self.layout.checkpoint(system, seed), "held_out": pairs}

    def baseline_run(self) -> Run:
        """What every other system is compared with."""
        baseline = self.config.baseline
        return Run(baseline, self.first_run(baseline).seed, self.first_search(baseline))

    def baseline(self) -> str:
        """Its translations."""
        return self.layout.translations(self.baseline_run())

    # ---- what a run leaves ----------------------------------------------------------------------------------------

    def checkpoints(self, systems: Iterable[str] | None = None) -> list[str]:
        """Files of the checkpoints of the systems, each once."""
        return self._checkpoint_files(self.runs(systems))

    def timed_checkpoints(self) -> list[str]:
        """The same of the timed seed of every system: seeds of one configuration take the same time."""
        return self._checkpoint_files(Run(*timed) for timed in self._timed_seeds().items())

    def shortlist_text(self) -> list[str]:
        """Encoded training text that shortlists are made from; none where none are timed, or where it has no targets
        and nobody makes some."""
        if not self.config.latency.shortlist_size:
            return []
        return self.distilled() if "train" in self.config.corpus.unreferenced else [self.layout.text("raw")]

    def _checkpoint_files(self, runs: Iterable[Run]) -> list[str]:
        files = (self.layout.checkpoint(run.system, run.seed).values() for run in runs)
        return list(dict.fromkeys(path for paths in files for path in paths))

    def named_checkpoints(self) -> list[str]:
        """Every checkpoint as <system>/seed<seed>=<directory>."""
        return [f"{run}={self.layout.checkpoint_directory(run.system, run.seed)}" for run in self.runs()]

    def training_logs(self) -> list[str]:
        """Logs of the systems trained here; a given checkpoint has none."""
        systems = [name for name, section in self.config.systems.items() if not section.checkpoint]
        return [self.layout.training_log(run) for run in self.runs(systems)]

    def translations(self) -> list[str]:
        """Translations of every decoding."""
        return [self.layout.translations(run) for run in [*self.external(), *self.decodings()]]

    def segment_scores(self, system: str, seed: int, search: str) -> list[str]:
        """Scores of each translation of a decoding, a file per learned metric."""
        run = Run(system, seed, search)
        return [self.layout.segment_scores(metric, run) for metric in self.config.evaluation.learned]

    def learned_files(self, metric: str) -> list[str]:
        """Files that a learned metric's command names."""
        return list(self.config.evaluation.learned[metric].files.values())

    def all_segment_scores(self) -> list[str]:
        """The same of every decoding."""
        runs = [*self.external(), *self.decodings()]
        return [path for run in runs for path in self.segment_scores(run.system, run.seed, run.search)]

    def scores(self, systems: Iterable[str] | None = None) -> list[str]:
        """Scores of every decoding of the systems; of all, if none is named, and of the external teacher then."""
        external = self.external() if systems is None else []
        return [self.layout.scores(run) for run in [*external, *self.decodings(systems)]]

    def lengths(self) -> list[str]:
        """Scores by length, if the configuration asks for them."""
        return [f"{self.layout.root}/scores/lengths.parquet"] if self.config.evaluation.length_buckets else []

    def exposure(self) -> list[str]:
        """Exposure bias of the systems that the configuration names for it."""
        return [self.layout.exposure(run) for run in self.runs(self.config.evaluation.exposure.systems)]

    def multimodality(self, systems: Iterable[str] | None = None) -> list[str]:
        """Multi-modality of the texts of the parallel systems, where there are unseen pairs."""
        sections = self.config.systems
        measured = [
            name
            for name in (sections if systems is None else systems)
            if sections[name].data in ("raw", "references", "em")
            and not sections[name].objective.left_to_right
            and not sections[name].checkpoint  # nobody knows what it has seen, nor need its vocabulary be the run's
        ]
        return [self.layout.multimodality(run) for run in self.runs(measured)]

    def guards(self) -> list[str]:
        """Guards of every iteration that was tried."""
        iterations = self.config.em.iterations
        seeds = self.config.seeds_of(em_student(1)) if iterations else []
        return [
            f"{self.layout.root}/em/iteration{t}/guards.parquet"
            for t in range(2, iterations + 1)
            if any(self.loop_reaches(t - 1, seed) for seed in seeds)
        ]

    def iterations(self, *numbers: int) -> list[str]:
        """Checkpoints, scores and multi-modality of EM iterations, or of all of them if none is named."""
        numbers = numbers or tuple(range(1, self.config.em.iterations + 1))
        systems = [system for system in self.config.systems if em_iteration(system) in numbers]
        return [*self.checkpoints(systems), *self.scores(systems), *self.multimodality(systems)]

    def distilled(self) -> list[str]:
        """The distilled text, if the run has a teacher or is given such a text."""
        return [f"{self.layout.root}/distilled/encoded.parquet"] if self.config.teacher or self.given_outputs() else []

    def encodings(self) -> list[str]:
        """Statistics of the encoded corpus, and of distilled text that the vocabulary may not know."""
        trains = any(section.data in ("distilled", "mixed") for section in self.config.systems.values())
        given = [f"{self.layout.root}/distilled/encoding.parquet"] if trains and self.given_outputs() else []
        return [f"{self.layout.root}/encoded/encoding.parquet", *given]

    def gathered(self) -> list[str]:
        """Training texts made of outputs, of the systems that are trained here."""
        systems = [
            name
            for name, section in self.config.systems.items()
            if not section.checkpoint and section.data not in ("raw", "references")
        ]
        return list(dict.fromkeys(self.training_text(run.system, run.seed) for run in self.runs(systems)))

    def pretraining_text(self) -> list[str]:
        """The text that a model of this run is pre-trained on, if others start from that model."""
        trained = [name for name, section in self.config.systems.items() if not section.checkpoint]
        starts = (self.starting_run(run.system, run.seed) for run in self.runs(trained))
        used = {start for start in starts if start and start.system == PRETRAINED}
        return [self.training_text(PRETRAINED, s.seed) for s in used if not self.config.trained[PRETRAINED].checkpoint]

    def pretraining(self) -> list[str]:
        """The checkpoint of the pre-trained model, if there is one."""
        if self.config.pretraining is None:
            return []
        return list(self.layout.checkpoint(PRETRAINED, self.first_run(PRETRAINED).seed).values())
