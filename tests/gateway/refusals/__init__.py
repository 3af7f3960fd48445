"""What Envoy refuses holds up nothing else."""
