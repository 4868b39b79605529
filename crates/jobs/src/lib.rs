//! The job state machine and the jobs: mirror.
