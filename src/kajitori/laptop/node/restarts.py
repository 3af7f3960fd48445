"""Whether a container that ended starts again, and when. Pure.

Source: Kubernetes documentation, "Pod Lifecycle: how Pods handle problems with containers", "Container restart rules".
"""

from __future__ import annotations

import dataclasses

from kajitori.api.kubernetes.core_v1 import Container

FIRST_SECONDS = 10.0
LONGEST_SECONDS = 300.0
RESET_SECONDS = 600.0


def restarts(container: Container, kind: str, pod_policy: str, exit_code: int) -> bool:
    """kind: `init`, `sidecar`, `main` or `ephemeral`."""
    if kind in ("sidecar", "ephemeral"):
        return kind == "sidecar"
    for rule in container.restart_policy_rules:
        codes = rule.exit_codes
        if codes and rule.action == "Restart" and (exit_code in codes.values) == (codes.operator == "In"):
            return True
    policy = container.restart_policy or pod_policy
    if kind == "init" and policy == "Always":
        policy = "OnFailure"  # an init container that ended well is done
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


@dataclasses.dataclass
class BackOff:
    """The wait before each further start: none before the first restart, then doubling.

    first_seconds: the shortest wait. A container that ran for `reset_seconds` is forgiven.
    """

    first_seconds: float = FIRST_SECONDS
    longest_seconds: float = LONGEST_SECONDS
    reset_seconds: float = RESET_SECONDS
    restarts: int = 0

    def next_wait_seconds(self, ran_seconds: float) -> float:
        """Count an end after so long a run; how long to wait before the next start."""
        if ran_seconds >= self.reset_seconds:
            self.restarts = 0
        self.restarts += 1
        if self.restarts == 1:
            return 0.0
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(self.restarts - 2, 30))
