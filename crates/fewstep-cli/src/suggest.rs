//! What somebody may have meant.

/// The known name nearest to what was typed, if any is near (by the measure and the threshold of the argument parser, so that
/// names of options and names of methods are guessed alike).
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro(typed, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}

/// The end of a sentence about an unknown name: the nearest known one, or all of them.
pub fn advice<'a>(typed: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(typed, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_guessed_and_the_rest_is_listed() {
        let known = ["karras", "log_snr", "cosine"];
        assert_eq!(advice("karas", known), "did you mean 'karras'?");
        assert_eq!(advice("log-snr", known), "did you mean 'log_snr'?");
        assert_eq!(advice("xyz", known), "there are karras, log_snr, cosine");
        assert_eq!(nearest("", known), None);
    }
}
