"""Run the simulated vLLM; also as a file, by an interpreter that was started without site-packages."""

from __future__ import annotations

import sys

if not __package__:
    sys.path.insert(0, __file__.rsplit("/", 4)[0])

from kajitori.engines.simulated.start import main

if __name__ == "__main__":
    main(sys.argv[1:])
