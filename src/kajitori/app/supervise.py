"""The supervisor's process: `python -m kajitori.app.supervise --home HOME`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

if __name__ == "__main__":
    # asyncio does without OpenSSL where there is none; it is 4 MB that this process never needs.
    sys.modules["ssl"] = cast("ModuleType", None)
    from kajitori.app.supervisor import main

    sys.exit(main())
