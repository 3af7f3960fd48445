"""Where pods go, groups of them as one: pure placement, and the controller that holds gangs back on clusters of others."""
