"""`kaji node`: our process nodes in any cluster: join, leave, and the service proxy beside them."""
