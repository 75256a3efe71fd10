//! Training: resuming is exact, the loss falls.
