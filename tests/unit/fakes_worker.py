"""A stand-in for the program of a learned metric: an output's number of words, plus 100 times those of its source."""

from __future__ import annotations

import json
import sys

WORDS = [sys.executable, __file__]

if __name__ == "__main__":
    print(json.dumps({"signature": "words|version:1"}))
    for text in sys.stdin:
        line = json.loads(text)
        assert isinstance(line["references"], list)
        print(json.dumps({"score": len(line["hypothesis"].split()) + 100 * len(line["source"].split())}))
