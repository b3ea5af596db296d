"""The Kubernetes side of a platform: Helm releases, Secrets' metadata, scratch namespaces."""
