"""Other task queues, each doing the same appends at one message a task.

Each module is a program: `fill N` enqueues, `work` runs one worker process until it is ended.
"""
