//! What every page has: head, navigation, and the place of its content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::web::assets::{COPY, HTMX, STYLE};

/// The pages that navigation leads to.
const PLACES: [(&str, &str); 8] = [
    ("/", "Answers"),
    ("/ask", "Ask"),
    ("/map", "Map"),
    ("/deployments", "Deployments"),
    ("/traces", "Recordings"),
    ("/models", "Models"),
    ("/devices", "Devices"),
    ("/docs/", "API"),
];

/// A page.
#[derive(Debug, Default)]
pub struct Page {
    /// Stands in the title of the window.
    pub title: String,
    /// The path of the page that navigation marks.
    pub place: &'static str,
    /// Whether parts of it change; then it loads htmx, and without script comes anew every so many
    /// seconds.
    pub renewed_every_s: Option<u32>,
    /// The content.
    pub body: Markup,
}

/// What htmx leaves alone, since the page forbids it: styles in the page, and code in attributes.
const HTMX_CONFIG: &str = r#"{"includeIndicatorStyles":false,"allowEval":false}"#;

impl Page {
    /// The page as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    (head(&self.title))
                    link rel="stylesheet" href=(STYLE.path());
                    script src=(COPY.path()) defer {}
                    @if let Some(seconds) = self.renewed_every_s {
                        meta name="htmx-config" content=(HTMX_CONFIG);
                        script src=(HTMX.path()) defer {}
                        noscript { meta http-equiv="refresh" content=(seconds); }
                    }
                }
                body {
                    a class="skip" href="#main" { "Skip to the content" }
                    header {
                        a class="home" href="/" { "moe-gps" }
                        nav aria-label="Pages" {
                            @for (path, name) in PLACES {
                                a href=(path) aria-current=[(path == self.place).then_some("page")] {
                                    (name)
                                }
                            }
                        }
                    }
                    main id="main" { (self.body) }
                    footer { p { "moe-gps " (env!("CARGO_PKG_VERSION")) } }
                }
            }
        }
        .into_string()
    }
}

/// A page in a file of its own, with style and script within.
#[must_use]
pub fn alone(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(title))
                style { (PreEscaped(&STYLE.text)) }
            }
            body {
                main id="main" { (body) }
                footer { p { "moe-gps " (env!("CARGO_PKG_VERSION")) } }
                script { (PreEscaped(&COPY.text)) }
            }
        }
    }
    .into_string()
}

fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        title { (title) " · moe-gps" }
        link rel="icon" href="data:,";
    }
}
