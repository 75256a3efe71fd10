//! The names that files give to Inception's layers, brought to torchvision's.

/// The tensor that tells the network from others, and whose name tells the prefix of all.
pub(super) const FIRST: &str = "Conv2d_1a_3x3.conv.weight";

/// pytorch-fid's module holds the layers in four sequences; pools stand between them and have no weights.
const SEQUENCES: [(&str, &str); 16] = [
    ("0.0", "Conv2d_1a_3x3"),
    ("0.1", "Conv2d_2a_3x3"),
    ("0.2", "Conv2d_2b_3x3"),
    ("1.0", "Conv2d_3b_1x1"),
    ("1.1", "Conv2d_4a_3x3"),
    ("2.0", "Mixed_5b"),
    ("2.1", "Mixed_5c"),
    ("2.2", "Mixed_5d"),
    ("2.3", "Mixed_6a"),
    ("2.4", "Mixed_6b"),
    ("2.5", "Mixed_6c"),
    ("2.6", "Mixed_6d"),
    ("2.7", "Mixed_6e"),
    ("3.0", "Mixed_7a"),
    ("3.1", "Mixed_7b"),
    ("3.2", "Mixed_7c"),
];
const FIRST_IN_SEQUENCES: &str = "blocks.0.0.conv.weight";

/// Every name that belongs to the network with torchvision's name of it; `None` if the network is not there.
pub(super) fn in_torchvision_style<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Vec<(&'a str, String)>> {
    if let Some(prefix) = names.clone().find_map(|name| name.strip_suffix(FIRST)) {
        return Some(names.filter_map(|name| Some((name, name.strip_prefix(prefix)?.to_owned()))).collect());
    }
    let prefix = names.clone().find_map(|name| name.strip_suffix(FIRST_IN_SEQUENCES))?;
    Some(names.filter_map(|name| Some((name, from_sequences(name.strip_prefix(prefix)?)?))).collect())
}

/// `blocks.2.0.branch_pool.conv.weight` to `Mixed_5b.branch_pool.conv.weight`.
fn from_sequences(name: &str) -> Option<String> {
    let rest = name.strip_prefix("blocks.")?;
    SEQUENCES.iter().find_map(|(place, layer)| {
        let rest = rest.strip_prefix(place)?.strip_prefix('.')?;
        Some(format!("{layer}.{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(names: &[&'static str]) -> Option<Vec<String>> {
        let found = in_torchvision_style(names.iter().copied())?;
        Some(found.into_iter().map(|(_, name)| name).collect())
    }

    #[test]
    fn both_styles_and_prefixes_are_known() {
        let plain = ["fc.weight", "Conv2d_1a_3x3.conv.weight"];
        assert_eq!(renamed(&plain).unwrap(), plain);
        assert_eq!(renamed(&["net.fc.weight", "net.Conv2d_1a_3x3.conv.weight", "other"]).unwrap(), plain);
        let module = ["blocks.0.0.conv.weight", "blocks.3.2.branch1x1.bn.bias", "blocks.3.9.x"];
        assert_eq!(renamed(&module).unwrap(), ["Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch1x1.bn.bias"]);
        assert!(renamed(&["conv1.weight"]).is_none());
    }
}
