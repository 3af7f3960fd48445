"""What keeps requests answered when a backend is not: order of attempts, retries, cool-down, saturation, hedging."""
