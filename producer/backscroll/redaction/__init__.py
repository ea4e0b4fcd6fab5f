"""What a message may not say when it leaves the adapter: the hook for a policy, and a ready one."""
