"""What is to be done: workflows, the queue, where tasks run, and the process that keeps them going."""
