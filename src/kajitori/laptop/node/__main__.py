"""The agent's process: `python -m kajitori.laptop.node --home DIR --name node-1`."""

from __future__ import annotations

import os

if __name__ == "__main__":
    # aiohttp reads the machine's certificate authorities when it is imported, 2 MB that no node needs: the API server
    # is checked against the authority in the kubeconfig.
    os.environ["SSL_CERT_FILE"] = os.devnull
    from kajitori.laptop.node.process import main

    main()
