//! What all pages that are made here share: one style, and one script that explains charts.

/// The style; a page adds its own rules after it.
const STYLE: &str = include_str!("page/style.css");

/// The script of charts; a page adds its own after it.
const CHARTS: &str = include_str!("page/charts.js");

/// A page with the style and the script in their places: `{{style}}` and `{{charts}}`.
pub fn filled(template: &str) -> String {
    template.replace("{{style}}", STYLE).replace("{{charts}}", CHARTS)
}
