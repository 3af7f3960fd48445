"""Start the runner of a node: `python -S -E runner.py --home DIR --name node-1`.

A script rather than a module, because without site packages an editable install is not on the path.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # The folder of this script is on the path first: replace it by the folder that holds the package.
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from kajitori.laptop.node.runtime.service import main

    main()
