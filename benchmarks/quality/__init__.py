"""How good adapters get on real tasks, by each way of training, and what that costs."""
