"""A vLLM that computes nothing: same command line, API, metrics and group forming, paced by the performance model.

How a process comes up: `__main__` finds the package, `start` reads the command line with the standard library alone,
and a headless rank becomes a `worker` (it only has to be there, and to die with its group), while rank 0 becomes a
`server`: it waits for its group, then serves. Everything that it says is labelled as simulated.
"""
