//! Which shape of an answer `Accept` asks for.

use axum::http::{HeaderMap, header};

/// Whether a page is rather wanted than JSON: `text/html` is named, and `application/json` is not
/// named before it or with a greater weight (RFC 9110 section 12.5.1).
#[must_use]
pub fn wants_page(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(&str, f64)> = values.flat_map(|value| value.split(',')).map(range).collect();
    let of = |name: &str| {
        let mut places = ranges.iter().enumerate();
        let found = places.find(|(_, (range, _))| range.eq_ignore_ascii_case(name));
        found.map(|(place, (_, weight))| (*weight, place)).filter(|(weight, _)| *weight > 0.0)
    };
    match (of("text/html"), of("application/json")) {
        (Some((html, first)), Some((json, second))) => {
            html > json || (html >= json && first < second)
        }
        (html, _) => html.is_some(),
    }
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
