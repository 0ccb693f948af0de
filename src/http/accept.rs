//! Which shape of an answer `Accept` asks for.

use axum::http::{HeaderMap, header};

/// Whether a page is rather wanted than JSON: `text/html` is named, and `application/json` is not
/// named before it or with a greater weight (RFC 9110 section 12.5.1).
#[must_use]
pub fn wants_page(headers: &HeaderMap) -> bool {
    preferred(headers, |name| {
        ["text/html", "application/json"].into_iter().find(|one| *one == name)
    }) == Some("text/html")
}

/// Of the media ranges that are known the one of the greatest weight, of equal ones the first; names are
/// asked for in small letters.
pub fn preferred<T>(headers: &HeaderMap, known: impl Fn(&str) -> Option<T>) -> Option<T> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(',')).map(range);
    let mut best: Option<(T, f64)> = None;
    for (name, weight) in ranges.filter(|(_, weight)| *weight > 0.0) {
        if let Some(known) = known(&name.to_ascii_lowercase())
            && best.as_ref().is_none_or(|(_, most)| *most < weight)
        {
            best = Some((known, weight));
        }
    }
    best.map(|(known, _)| known)
}

/// A media range with its weight.
fn range(text: &str) -> (&str, f64) {
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default().trim();
    let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse().ok());
    (name, weight.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_page_is_answered_to_whom_it_is_named_first() {
        for (accept, page) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("text/html", true),
            ("application/json, text/html", false),
            ("text/html;q=0.5, application/json", false),
            ("application/json;q=0.5, text/html", true),
            ("text/html;q=0", false),
            ("*/*", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_page(&headers), page, "{accept}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }
}
