"""`python -m kajitori.cli`: the same as the command `kaji`."""

import sys

from kajitori.cli import main

sys.exit(main())
