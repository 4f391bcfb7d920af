"""The Pod Security Standards: what a namespace's labels demand (`levels`), and what a pod may then be (`checks`)."""
