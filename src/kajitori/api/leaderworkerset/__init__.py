"""leaderworkerset.x-k8s.io: groups of pods, one leader and its workers, that live and die as one."""
