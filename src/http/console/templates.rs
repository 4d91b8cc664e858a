//! The templates of the console, and what they may call. They are files of `src/http/pages/console`, everything in them is
//! escaped, and a name that a page does not have is an error (a unit test reads them all, the tests of pages render them).

use std::sync::OnceLock;

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, context};

use super::address::Address;
use super::{moment, words};
use crate::http::qr;

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../pages/console/", $name)))),*];
    };
}

templates!(
    "shell.html",
    "refused.html",
    "login.html",
    "start.html",
    "devices.html",
    "device.html",
    "exposure.html",
    "handover.html",
    "replace.html",
    "replace_preview.html",
    "replaced.html",
    "undo.html",
    "undone.html",
    "accounts.html",
    "account.html",
    "account_form.html",
    "account_close.html",
    "linked.html",
    "cards.html",
    "grants.html",
    "grant_form.html",
    "escrow.html",
    "escrow_one.html",
    "audit.html",
    "custody.html",
    "parts/database.html",
    "parts/phones.html",
    "parts/unsent.html",
    "parts/pages.html",
    "parts/places.html",
    "parts/messages.html",
    "parts/link.html",
    "parts/field.html",
    "parts/choice.html",
    "parts/tick.html",
);

/// Every template, read once.
pub(super) fn all() -> Result<&'static Environment<'static>, &'static Error> {
    static READ: OnceLock<Result<Environment<'static>, Error>> = OnceLock::new();
    READ.get_or_init(read).as_ref()
}

fn read() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    environment.add_filter("moment", |state: &State<'_, '_>, seconds: Value| {
        moment::moment(number(&seconds), state.lookup("now").as_ref().map(number).unwrap_or_default())
    });
    environment.add_filter("place", |state: &State<'_, '_>, id: String| {
        let name = state.lookup("names").and_then(|names| names.get_attr(&id).ok()).unwrap_or_default();
        name.as_str().map_or_else(|| id.clone(), |name| format!("{name} ({id})"))
    });
    environment.add_filter("standing", |word: String| words::standing(&word));
    environment.add_filter("cause", |word: String| words::cause(&word));
    environment.add_filter("evidence", |word: Value| words::evidence(word.as_str().unwrap_or_default()));
    environment.add_filter("action", |word: String| words::action(&word));
    environment.add_filter("held_because", |word: String| words::held_because(&word));
    environment.add_filter("changed_hands", |word: String| words::changed_hands(&word));
    environment.add_filter("state", |word: String| words::state(&word));
    environment.add_filter("message", |word: String| words::message(&word));
    environment.add_filter("qr", |text: String| {
        Value::from_safe_string(qr::svg(&text, "QR code of the link").unwrap_or_default())
    });
    environment.add_filter("counted", |count: Value, one: String, several: String| {
        words::counted(number(&count), &one, &several)
    });
    environment.add_function("page", page);
    environment.add_function("field", |state: &State<'_, '_>, name: String, label: String, options: Kwargs| {
        part(state, "parts/field.html", &name, &label, &options)
    });
    environment.add_function("choice", |state: &State<'_, '_>, name: String, label: String, options: Kwargs| {
        part(state, "parts/choice.html", &name, &label, &options)
    });
    environment.add_function("tick", |state: &State<'_, '_>, name: String, label: String, options: Kwargs| {
        part(state, "parts/tick.html", &name, &label, &options)
    });
    Ok(environment)
}

/// A number of the API's answer; what is none is 0.
fn number(value: &Value) -> u64 {
    u64::try_from(value.clone()).unwrap_or_default()
}

/// `page("devices", id, place=…)`: the address of a page. Members that are empty are left out.
fn page(arguments: Rest<Value>) -> Result<Value, Error> {
    let (mut segments, mut query) = (Vec::new(), Vec::new());
    for argument in arguments.iter() {
        if argument.is_kwargs() {
            let members = Kwargs::try_from(argument.clone())?;
            for name in members.args() {
                query.push((name.to_owned(), members.get::<Value>(name)?));
            }
        } else {
            segments.push(argument.to_string());
        }
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let mut address = Address::page(&segments);
    for (name, value) in query.iter().filter(|(_, value)| !value.is_none()) {
        address = address.with_some(name, Some(&value.to_string()));
    }
    Ok(Value::from(address.to_string()))
}

/// A field of a form, with its label, its hint, what was typed before, and what was wrong with it, tied together for screen
/// readers. Options: `kind`, `value`, `hint`, `required`, `complete`, `options`, and `of` for one of several forms of a page.
fn part(state: &State<'_, '_>, template: &str, name: &str, label: &str, options: &Kwargs) -> Result<Value, Error> {
    let looked_up =
        |name: &str| state.lookup(name).ok_or_else(|| Error::new(ErrorKind::UndefinedError, name.to_owned()));
    let form = options.get::<Option<String>>("of")?;
    let is_answered = match (&form, looked_up("form")?.as_str()) {
        (Some(form), Some(answered)) => form == answered,
        (form, _) => form.is_none(),
    };
    let typed = looked_up("typed")?.get_attr(name)?;
    let value = match options.get::<Option<Value>>("value")? {
        Some(value) => value,
        None if is_answered && !typed.is_undefined() => typed,
        None => Value::from(""),
    };
    let wrong = looked_up("wrong")?;
    let wrong = wrong.as_str().filter(|wrong| is_answered && wrong.contains(&format!("\u{201c}{name}\u{201d}")));
    let id = match &form {
        Some(form) => format!("{form}-{name}"),
        None => name.to_owned(),
    };
    let text = |option: &str| options.get::<Option<String>>(option).map(Option::unwrap_or_default);
    let kind = text("kind")?;
    let rendered = state.env().get_template(template)?.render(context! {
        id, name, label, wrong,
        value => if kind == "password" { Value::from("") } else { value },
        kind => if kind.is_empty() { "text".to_owned() } else { kind },
        hint => text("hint")?,
        complete => options.get::<Option<String>>("complete")?.unwrap_or_else(|| "off".to_owned()),
        required => options.get::<Option<bool>>("required")?.unwrap_or_default(),
        options => options.get::<Option<Value>>("options")?.unwrap_or_default(),
    })?;
    options.assert_all_used()?;
    Ok(Value::from_safe_string(rendered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_be_read() {
        let environment = all().unwrap_or_else(|error| panic!("{error:#}"));
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/pages/console");
        let (mut found, mut folders) = (0, vec![folder]);
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else {
                    found += usize::from(entry.extension().is_some_and(|kind| kind == "html"));
                }
            }
        }
        assert_eq!(found, environment.templates().count(), "a file that no page uses");
    }

    #[test]
    fn everything_is_escaped() {
        let environment = all().expect("templates");
        let evil = "<script>alert('1')</script>&\"";
        let shown = |name: &str, context: Value| {
            let shown = environment.get_template(name).expect("a template").render(context);
            shown.unwrap_or_else(|error| panic!("{error:#}"))
        };
        let row = context! {device => "ab", name => evil, account => evil, places => vec![evil], standing => "active",
        last_seen => 0, last_push => 0, pending => (), escrowed => 0};
        let phones = shown("parts/phones.html", context! {phones => vec![row], now => 5});
        assert!(phones.matches("&lt;script&gt;").count() == 3 && !phones.contains("<script"), "{phones}");
        let field = context! {id => "x", name => "x", label => evil, value => evil, hint => evil, wrong => evil, kind => "text",
        complete => "off", required => true, options => ()};
        let field = shown("parts/field.html", field);
        assert!(
            !field.contains("<script") && !field.contains("\"<") && field.matches("&quot;").count() == 4,
            "{field}"
        );
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error() {
        let environment = all().expect("templates");
        assert!(environment.get_template("parts/phones.html").expect("a template").render(context! {}).is_err());
        let page = environment.render_str("{{ page('devices', 'a/b', place='x&y', after=none) }}", context! {});
        assert_eq!(page.expect("a page"), "/_console/devices/a%2Fb?place=x%26y");
    }
}
