//! `POST /_accounts/_sheet`: a page of cards with links, to be printed and cut.

use serde_json::{Map, Value};
use settle_protocol::Error;

use super::Handled;
use super::account_changes::{act, desk_of, flag_in, texts_of};
use super::accounts::text_of;
use super::database::object_or_empty;
use super::links::{address_of, escaped, safe_page};
use crate::accounts::http_date::plain_date;
use crate::accounts::link_texts::sentences;
use crate::clock::random;
use crate::documents::sheets::{self, Card, Chosen};
use crate::http::pipeline::Context;
use crate::http::qr;
use crate::http::response::Answer;
use crate::storage::hex;

const SHEET: &str = include_str!("../pages/sheet.html");
const CARD: &str = include_str!("../pages/sheet_card.html");

fn chosen(body: &Map<String, Value>) -> Result<Chosen, Error> {
    match (texts_of(body, "accounts")?, text_of(body, "place")?) {
        (Some(accounts), None) => Ok(Chosen::Accounts(accounts)),
        (None, Some(place)) => Ok(Chosen::Place { place, all: flag_in(body, "all")? }),
        _ => Err(Error::bad_request("Either `accounts` (a list of names) or `place` (an id) must be given.")),
    }
}

/// `POST /_accounts/_sheet`: makes the links and answers the page. It is the only copy.
pub(super) async fn print(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let chosen = chosen(&body)?;
    let locale = text_of(&body, "locale")?;
    let desk = desk_of(context, text_of(&body, "database")?.as_deref(), text_of(&body, "reason")?)?;
    let cards = act(context, desk, move |batch, desk| sheets::make(batch, desk, &chosen)).await?;
    if context.request.query.flag("dry_run") {
        let names: Vec<Value> = cards.into_iter().map(|card| card.account.into()).collect();
        let answer = serde_json::json!({"ok": true, "dry_run": true, "accounts": names});
        return Ok(Answer::json(200, answer.to_string()));
    }
    let drawn: Result<Vec<String>, Error> =
        cards.iter().map(|card| draw(card, &address_of(context, &card.link.token), locale.as_deref())).collect();
    let nonce = hex(&random::<16>());
    let page = SHEET
        .replace("{{nonce}}", &nonce)
        .replace("{{locale}}", sentences(locale.as_deref()).locale)
        .replace("{{title}}", &escaped(&format!("{} cards", cards.len())))
        .replace("{{cards}}", &drawn?.concat());
    Ok(safe_page(Answer::json(200, page), &nonce))
}

/// One card. What people wrote comes last, so that nothing in it is filled in.
fn draw(card: &Card, link: &str, locale: Option<&str>) -> Result<String, Error> {
    let said = sentences(card.locale.as_deref().into_iter().chain(locale));
    let code = qr::svg(link, "QR").map_err(|_| Error::bad_request("`public_url` is too long for a QR code."))?;
    let mut filled = CARD.to_owned();
    let name = card.name.as_deref().unwrap_or(&card.account);
    for (part, text) in [
        ("{{locale}}", said.locale),
        ("{{code}}", &code),
        ("{{card}}", &escaped(said.card)),
        ("{{until}}", &escaped(said.until)),
        ("{{expires}}", &plain_date(card.link.expires)),
        ("{{link}}", &escaped(link)),
        ("{{account}}", &escaped(&card.account)),
        ("{{place}}", &card.place.as_deref().map(|place| format!("{} · ", braceless(place))).unwrap_or_default()),
        ("{{name}}", &braceless(name)),
    ] {
        filled = filled.replace(part, text);
    }
    Ok(filled)
}

/// Text that people wrote: as text, and no part of the page to be filled in.
fn braceless(text: &str) -> String {
    escaped(text).replace('{', "&#123;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::links::FreshLink;

    #[test]
    fn a_card_carries_text_as_text_in_the_language_of_its_person() {
        let link = FreshLink { token: "T".into(), expires: 0, message: None };
        let card = Card {
            account: "bea".into(),
            name: Some("<script>{{link}}".into()),
            place: Some("{{name}} & Co".into()),
            locale: Some("fr".into()),
            link,
        };
        let drawn = draw(&card, "http://h/_links/T", Some("sw")).expect("short enough");
        assert!(drawn.contains("<h2>&lt;script&gt;&#123;&#123;link}}</h2>"), "{drawn}");
        assert!(drawn.contains("<p>&#123;&#123;name}} &amp; Co · bea</p>"), "{drawn}");
        assert!(drawn.contains("Valable jusqu&#39;au 1970-01-01 00:00 UTC"), "{drawn}");
        assert!(drawn.contains("<code>http://h/_links/T</code>") && !drawn.contains("{{"), "{drawn}");
    }
}
