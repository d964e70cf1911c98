//! A real Kubernetes, built from package registries, for tests and the demo.
