"""Wire types: one module per API group and version, msgspec structs with upstream names, and their schemas."""
