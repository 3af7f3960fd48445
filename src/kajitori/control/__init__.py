"""Controller machinery: work queue, informer cache, reconcile loop, leader election."""
