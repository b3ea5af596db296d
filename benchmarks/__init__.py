"""The same work done by drctl and by its peers, on the same servers, in one run."""
