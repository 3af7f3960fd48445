"""The Envoys of a cluster as a fleet: certificates, the Service in front, what replicas tell each other."""
