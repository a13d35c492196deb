"""The gRPC server: one frozen base in a vLLM engine, any tenant's adapter beside it."""
