"""The suite: real servers, real files, real processes."""
