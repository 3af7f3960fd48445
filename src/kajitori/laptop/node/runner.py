"""Start the runner of a node: `python -S -E runner.py --home DIR --name node-1`.

A script rather than a module, because without site packages an editable install is not on the path.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # The folder of this script is on the path first: replace it by the folder that holds the package.
    sys.path[0] = os.path.abspath(os.path.join(os.path.realpath(__file__), *[os.pardir] * 4))
    from kajitori.laptop.node.runtime.service import main

    main()
