//! Percent-encoding by RFC 3986 as the signature wants it, used for the wire too, so that both are one string.

use std::fmt::Write;

/// Everything but `A-Z a-z 0-9 - _ . ~` becomes `%XX`; a space `%20`, `*` `%2A`.
pub(super) fn percent(text: &str) -> String {
    escape(text, "-_.~")
}

/// For paths: as RFC 3986 wants it, but `/` stays.
pub fn path(text: &str) -> String {
    escape(text, "-_.~/")
}

/// The canonical query: sorted by raw key, both sides encoded; an empty value keeps its `=`.
pub(super) fn query(params: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = params.iter().collect();
    sorted.sort();
    let pairs: Vec<_> =
        sorted.iter().map(|(key, value)| format!("{}={}", percent(key), percent(value))).collect();
    pairs.join("&")
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A JSON array of strings, as parameters like `DiskIds` want their ids.
pub fn json_list(items: &[String]) -> String {
    serde_json::Value::from(items.to_vec()).to_string()
}

fn escape(text: &str, kept: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> String {
        let mut bytes = text.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
                    out.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
                }
                other => out.push(other),
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn reserved_characters_are_encoded_as_the_vendor_wants_them() {
        assert_eq!(percent("a b*c~d/é+"), "a%20b%2Ac~d%2F%C3%A9%2B");
        assert_eq!(
            path("/2023-03-30/functions/app snap~函数"),
            "/2023-03-30/functions/app%20snap~%E5%87%BD%E6%95%B0"
        );
        assert_eq!(json_list(&["d-1".into(), "d-2".into()]), r#"["d-1","d-2"]"#);
    }

    proptest! {
        #[test]
        fn encoding_is_reversible_and_clean(text in ".*") {
            let encoded = percent(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b)));
            prop_assert_eq!(decode(&encoded), text);
        }

        #[test]
        fn the_order_of_parameters_does_not_matter(
            params in prop::collection::btree_map("[ -~]{1,8}", ".{0,8}", 0..8),
            turn in 0usize..8,
        ) {
            let params: Vec<(String, String)> = params.into_iter().collect();
            let mut turned = params.clone();
            turned.rotate_left(turn % params.len().max(1));
            prop_assert_eq!(query(&params), query(&turned));
        }

        #[test]
        fn a_query_carries_its_parameters(params in prop::collection::btree_map(".{1,8}", ".{0,8}", 0..8)) {
            let params: Vec<(String, String)> = params.into_iter().collect();
            let encoded = query(&params);
            let read: Vec<(String, String)> = encoded
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap())
                .map(|(key, value)| (decode(key), decode(value)))
                .collect();
            prop_assert_eq!(read, params);
        }
    }
}
