"""Domain without I/O: hardware and model catalogue, performance model, request cost."""
