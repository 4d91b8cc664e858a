//! QR codes as pictures within a page.

use std::fmt::Write as _;

use qrcodegen::{DataTooLong, QrCode, QrCodeEcc};

/// Modules of white around a code, as the standard asks for.
const QUIET: i32 = 4;

/// An `<svg>` with the code of a text: one module is one unit. Damage of a quarter of it can be read around.
///
/// # Errors
/// For more text than a code holds.
pub(crate) fn svg(text: &str, title: &str) -> Result<String, DataTooLong> {
    let code = QrCode::encode_text(text, QrCodeEcc::Quartile)?;
    let side = code.size() + 2 * QUIET;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            let (x, y) = (x + QUIET, y + QUIET);
            // Writing into a string does not fail.
            let _ = write!(path, "M{x} {y}h1v1h-1z");
        }
    }
    Ok(format!(
        "<svg viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"{title}\" shape-rendering=\"crispEdges\">\
         <path d=\"{path}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_three_corners_and_a_quiet_border() {
        let picture = svg("https://sync.example.org/_links/abc", "link").expect("short enough");
        let side: i32 = picture.split(['"', ' ']).nth(4).and_then(|side| side.parse().ok()).expect("a side");
        let dark = |x: i32, y: i32| picture.contains(&format!("M{x} {y}h1v1h-1z"));
        for (x, y) in [(4, 4), (side - 5, 4), (4, side - 5)] {
            assert!(dark(x, y), "{x} {y} of {side}");
        }
        assert!((0..side).all(|at| !dark(at, 3) && !dark(3, at)), "white around it");
        assert!(svg(&"x".repeat(5_000), "link").is_err());
    }
}
