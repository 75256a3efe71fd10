//! What somebody may have meant.

/// The known name nearest to what was given, if any is near.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (strsim::jaro(given, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}

/// The end of a sentence about an unknown name: the nearest known one, or all of them.
pub fn advice<'a>(given: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(given, known.clone()) {
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
