"""Keys of clients: which routes ask for one, and what each may be used for."""
