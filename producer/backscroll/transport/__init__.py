"""How operations reach the server, as RQ jobs, and how their results come back."""
