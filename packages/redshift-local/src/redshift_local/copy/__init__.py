"""COPY and UNLOAD: options, files in S3, rows and fields."""
