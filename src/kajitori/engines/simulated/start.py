"""Read the command line and become a rank of the group; what a worker does not need is not imported here."""

from __future__ import annotations

import os
import sys

from kajitori.engines.simulated.arguments import VERSION, ArgumentError, read_arguments


def main(arguments: list[str]) -> None:
    """Run the simulated `vllm` with what follows it on the command line. Ends the process."""
    if arguments in (["--version"], ["-v"]):
        sys.stdout.write(VERSION + "\n")
        sys.exit(0)
    try:
        settings = read_arguments(arguments)
    except ArgumentError as error:
        sys.stderr.write(f"vllm (simulated): error: {error}\n")
        sys.exit(2)
    if settings.not_simulated and settings.rank == 0:
        sys.stderr.write(
            f"vllm (simulated): accepted and not simulated: {' '.join(settings.not_simulated)}\n"
        )
    if settings.rank > 0:
        from kajitori.engines.simulated import worker

        code = worker.run(settings)
    else:
        # The interpreter may have been started without site-packages, which only rank 0 needs.
        import site

        if sys.flags.no_site:
            site.main()
        from kajitori.engines.simulated import server

        code = server.run(settings, os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
