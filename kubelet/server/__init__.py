"""The kubelet's servers: REST with TLS for the API server (logs, exec), gRPC with TLS, plain health and metrics."""
