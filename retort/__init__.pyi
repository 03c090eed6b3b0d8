from retort.errors import RetortError as RetortError
from retort.runtime.results import Hypothesis as Hypothesis
from retort.runtime.results import Latency as Latency
from retort.runtime.results import TextTranslation as TextTranslation
from retort.runtime.results import Token as Token
from retort.runtime.results import Translation as Translation
from retort.runtime.translator import Translator as Translator
from retort.runtime.translator import load as load

__version__: str
__all__ = [
    "Hypothesis",
    "Latency",
    "RetortError",
    "TextTranslation",
    "Token",
    "Translation",
    "Translator",
    "__version__",
    "load",
]
