"""What `make add-ecs` copies into a repository: the stack, the image and the workflow that builds the image."""
