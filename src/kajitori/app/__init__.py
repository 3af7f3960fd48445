"""Assembly: which controllers run, settings, the supervised tree of `kaji up`."""
