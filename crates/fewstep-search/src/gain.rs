//! The least share of an error that a step must take away, as settings hold it.

/// Whether a least gain is so low that no loss is too much: it is the least finite number, which is the least that settings can hold, or
/// lower. Said apart, as a share of an error of 0 is 0, however large a share it is.
pub(crate) fn any_loss_is_borne(least_gain: f64) -> bool {
    least_gain <= f64::MIN
}
