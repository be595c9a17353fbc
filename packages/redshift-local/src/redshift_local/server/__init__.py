"""The running warehouse: PostgreSQL, the gateway and its sessions."""
