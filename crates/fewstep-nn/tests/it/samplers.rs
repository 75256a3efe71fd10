//! The reference samplers, as plans, on a reference network.
