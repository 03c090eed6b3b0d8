"""Which modules each kind of job imports by name; ``retort.workflow.imports`` says why they matter."""

from __future__ import annotations

from retort.teachers.base import teacher_module
from retort.workflow.imports import (
    decoding_modules,
    engine_modules,
    metric_modules,
    model_module,
    scoring_modules,
    search_module,
    training_modules,
)
from retort.workflow.plan import Plan


class Modules:
    """Modules that the jobs of ``plan`` import by name, for each kind of job."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.config

    def corpus(self) -> set[str]:
        """Preparation of the corpus."""
        return {f"retort.corpus.{self.config.corpus.module}"}

    def training(self, system: str) -> set[str]:
        """Training, with the teacher that the objective asks."""
        section = self.config.trained[system]
        return training_modules(section) | self._teacher(section.objective.needs_teacher)

    def asking(self) -> set[str]:
        """Asking of the external teacher."""
        external = self.config.external_teacher
        return {teacher_module(external)} if external else set()

    def distillation(self) -> set[str]:
        """Decoding of the training text by the teacher."""
        return self._teacher(True) | decoding_modules(self.config.distillation)

    def labels(self) -> set[str]:
        """Labelling of a training text by the teacher."""
        return self._teacher(True)

    def scoring(self, system: str) -> set[str]:
        """Agreement and multi-modality, which a system measures."""
        return scoring_modules(self.config.systems[system])

    def candidates(self, iteration: int, seed: int) -> set[str]:
        """Decoding of an EM iteration's candidates."""
        run = self.plan.candidate_run(iteration, seed)
        modules = decoding_modules(self.config.distillation, self.plan.candidate_search())
        return {model_module(self.config.systems[run.system]), *modules}

    def choice(self, iteration: int, seed: int) -> set[str]:
        """Scoring of these candidates."""
        runs = self.plan.scorers(iteration, seed).values()
        return set().union(*(self.scoring(run.system) for run in runs))

    def guards(self) -> set[str]:
        """Comparison of the chosen candidates with the first teacher's translations, which it scores."""
        return self.scoring("teacher") | metric_modules(["BLEU"])

    def iteration(self, iteration: int, seed: int) -> set[str]:
        """Decoding of the training text by an EM iteration's autoregressive model."""
        run = self.plan.corpus_run(iteration, seed)
        return {model_module(self.config.systems[run.system]), *decoding_modules(self.config.distillation)}

    def translation(self, system: str, search: str) -> set[str]:
        """Translation of the tests, with the teacher that the search asks."""
        section = self.config.systems[system]
        used = {model_module(section), search_module(section.searches[search])}
        return used | self._teacher(section.asks_teacher(search))

    def tuning(self, system: str, search: str) -> set[str]:
        """The same of the validation set, and its scores."""
        return self.translation(system, search) | metric_modules(self.config.evaluation.metrics[:1])

    def exposure(self, system: str) -> set[str]:
        """Exposure bias: a student and the teacher complete each other's outputs."""
        models = {model_module(self.config.systems[system])} | self._teacher(True)
        return models | self.metrics() | {search_module(self.config.evaluation.exposure.search)}

    def metrics(self) -> set[str]:
        """Scoring of translations."""
        return metric_modules(self.config.evaluation.metrics)

    def scores(self) -> set[str]:
        """The same, with what recognises right translations where they are known."""
        judge = self.config.corpus.judge
        return self.metrics() | ({f"retort.corpus.{judge}"} if judge else set())

    def latency(self) -> set[str]:
        """Timing of every system and search, in each engine."""
        systems = self.config.systems.values()
        searches = {search_module(search) for system in systems for search in system.searches.values()}
        engines = {module for engine in self.config.latency.engines for module in engine_modules(engine, systems)}
        external = self.asking() if self.plan.config.external_is_timed else set()
        return searches | {model_module(system) for system in systems} | engines | external

    def _teacher(self, is_asked: bool) -> set[str]:
        return {model_module(teacher) for teacher in self.config.own_teachers.values()} if is_asked else set()
