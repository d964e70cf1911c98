//! migration-gate runs a workload's schema migration once, in one pod, before any new pod takes traffic.
