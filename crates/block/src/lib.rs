//! The I/O path: drivers, nodes, requests, drain, backends, publication.
