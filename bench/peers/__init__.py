"""Other task queues, each with the same appends, one message per task.

Each module is a program: `fill N` enqueues, `work` runs one worker process until it is ended.
"""
