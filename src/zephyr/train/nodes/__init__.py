"""A training on several nodes: the TrainJob, what its pods run, and the step that follows it."""
