"""The Lua that runs inside Envoy."""
