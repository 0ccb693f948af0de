//! Strong validators for answers that never change.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

/// The strong entity tag of a body: half of its SHA-256.
pub(super) fn etag(body: &[u8]) -> Option<HeaderValue> {
    let digest = Sha256::digest(body);
    let mut tag = String::with_capacity(34);
    tag.push('"');
    for byte in digest.iter().take(16) {
        // Writing into a string cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::try_from(tag).ok()
}

/// What stands at the end of the tag of a compressed body.
const COMPRESSED: &str = "-gzip";

/// The tag of the same body compressed.
pub(super) fn compressed_tag(etag: &HeaderValue) -> Option<HeaderValue> {
    let tag = etag.to_str().ok()?.strip_suffix('"')?;
    HeaderValue::try_from(format!("{tag}{COMPRESSED}\"")).ok()
}

/// Whether the client has this entity already (RFC 9110 section 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    known.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let plain = tag.strip_suffix('"').and_then(|tag| tag.strip_suffix(COMPRESSED));
        tag == "*"
            || tag == etag
            || plain.is_some_and(|plain| etag.strip_suffix('"') == Some(plain))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_compressed_body_stands_for_the_same() {
        let tag = etag(b"body").unwrap();
        let compressed = compressed_tag(&tag).unwrap();
        assert_ne!(tag, compressed);
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, compressed);
        assert!(is_known(&headers, &tag) && !is_known(&headers, &etag(b"other").unwrap()));
    }

    #[test]
    fn tags_match_weakly_in_lists_and_by_star() {
        let tag = etag(b"body").unwrap();
        let with = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::try_from(value).unwrap());
            is_known(&headers, &tag)
        };
        let text = tag.to_str().unwrap();
        assert!(with(text.to_owned()) && with(format!("\"a\", W/{text}")) && with("*".to_owned()));
        assert!(!with("\"a\"".to_owned()));
        assert_ne!(etag(b"other").unwrap(), tag);
    }
}
