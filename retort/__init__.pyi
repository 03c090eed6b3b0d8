from retort.errors import RetortError as RetortError
from retort.runtime.translator import Hypothesis as Hypothesis
from retort.runtime.translator import Latency as Latency
from retort.runtime.translator import Token as Token
from retort.runtime.translator import Translation as Translation
from retort.runtime.translator import Translator as Translator
from retort.runtime.translator import load as load

__version__: str
__all__ = ["Hypothesis", "Latency", "RetortError", "Token", "Translation", "Translator", "__version__", "load"]
