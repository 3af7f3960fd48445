"""What requests took and cost: records, usage, metrics."""
