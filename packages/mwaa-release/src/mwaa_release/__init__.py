"""The release tool: builds a release of the repository, plans it, applies it to a bucket, rolls it back."""
