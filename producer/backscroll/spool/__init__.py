"""Where operations wait on the producer's disk while the server accepts none."""
