//! What a design document must look like to be stored by an edit (recordings `documents/design-documents`).
//!
//! Functions are only checked for being text; nothing is compiled here. Replicated design documents are taken as they are:
//! refusing one would block a replication for good.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

fn must(value: Option<&Value>, field: &str, kind: &str, fits: fn(&Value) -> bool) -> Result<()> {
    match value {
        Some(value) if !fits(value) => {
            let reason = format!("`{field}` field must have {kind} type");
            Err(Error::new(ErrorKind::InvalidDesignDocument, reason))
        }
        _ => Ok(()),
    }
}

/// Checks the members of a design document (its body as JSON text, without braces).
///
/// # Errors
/// `400 invalid_design_doc` naming the first field of the wrong type.
pub fn check_design_document(body: &str) -> Result<()> {
    let Ok(document) = serde_json::from_str::<Value>(&format!("{{{body}}}")) else {
        return Err(Error::new(ErrorKind::InvalidDesignDocument, "The document is nested too deeply"));
    };
    must(document.get("language"), "language", "string", Value::is_string)?;
    must(document.get("validate_doc_update"), "validate_doc_update", "string", Value::is_string)?;
    for field in ["views", "filters", "lists", "shows", "updates", "options"] {
        must(document.get(field), field, "object", Value::is_object)?;
    }
    for field in ["filters", "lists", "shows", "updates"] {
        for (name, function) in document.get(field).and_then(Value::as_object).into_iter().flatten() {
            must(Some(function), &format!("{field}.{name}"), "string", Value::is_string)?;
        }
    }
    let is_query = document.get("language").and_then(Value::as_str) == Some("query");
    for (name, view) in document.get("views").and_then(Value::as_object).into_iter().flatten() {
        let field = format!("views.{name}");
        if name == "lib" {
            continue; // CommonJS modules, not a view
        }
        must(Some(view), &field, "object", Value::is_object)?;
        if !is_query {
            must(view.get("map"), &format!("{field}.map"), "string", Value::is_string)?;
            must(view.get("reduce"), &format!("{field}.reduce"), "string", Value::is_string)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_types() {
        let reason = |body| check_design_document(body).err().map(|error| error.reason().to_owned());
        for (body, field) in [
            (r#""views":[1]"#, "`views` field must have object type"),
            (r#""views":{"v":"x"}"#, "`views.v` field must have object type"),
            (r#""views":{"v":{"map":5}}"#, "`views.v.map` field must have string type"),
            (r#""language":5,"views":{}"#, "`language` field must have string type"),
            (r#""filters":5"#, "`filters` field must have object type"),
            (r#""validate_doc_update":5"#, "`validate_doc_update` field must have string type"),
        ] {
            assert_eq!(reason(body).as_deref(), Some(field));
        }
        for good in
            ["", r#""note":1"#, r#""language":"query","views":{"v":{"map":{"fields":{}}}}"#, r#""views":{"lib":"x"}"#]
        {
            assert_eq!(reason(good), None, "{good}");
        }
    }
}
