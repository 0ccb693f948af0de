//! Charts as SVG: axes, decision maps and curves, alone in a file or inside a page.

pub mod axis;
pub mod bars;
pub mod curves;
pub mod decision_map;
pub mod figure;
pub mod inline;
pub mod number_line;

/// Text that may stand in a page.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_write_into_the_page() {
        assert_eq!(escaped("<b a='1' & \"x\">"), "&lt;b a=&#39;1&#39; &amp; &quot;x&quot;&gt;");
    }
}
