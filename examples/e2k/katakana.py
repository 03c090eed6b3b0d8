"""English words on standard input, katakana on standard output: the teacher of e2k.yaml."""

import sys

from e2k import C2K

convert = C2K()
for line in sys.stdin:
    print(convert(line.strip()), flush=True)
