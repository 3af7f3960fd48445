"""One adapter per inference engine: how it is launched, what its metrics are called; the simulated engine."""
