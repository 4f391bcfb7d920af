"""What changes or refuses objects beyond their own validity. The chain's order is Kubernetes'."""
