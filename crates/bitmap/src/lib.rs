//! Hierarchical bitmap and dirty bitmap.
