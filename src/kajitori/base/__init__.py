"""Clock, durations, quantities, selectors, errors, reasons: no Kubernetes connection, no I/O."""
