//! What people are told about their links, in their language: the text of a message, and the sentences of a printed card.
//!
//! A language is looked up as `sw-TZ`, then `sw`, then what the caller falls back on, then English.

use std::collections::BTreeMap;

use super::http_date::plain_date;

/// Sentences of one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentences {
    /// Its code.
    pub locale: &'static str,
    /// A message: `{name}`, `{link}`, `{hours}` until it ends, `{expires}`.
    pub message: &'static str,
    /// What to do with a card.
    pub card: &'static str,
    /// What stands before the time at which a link ends.
    pub until: &'static str,
}

/// The languages that are built in, English first.
pub const BUILT_IN: [Sentences; 5] = [
    Sentences {
        locale: "en",
        message: "Hello {name}. This link logs you in once, within {hours} hours: {link} Do not give it to anybody.",
        card: "Scan the code with the camera of your phone, or type the address, and press the button. It works once. Do not \
               give it to anybody, and destroy this card afterwards.",
        until: "Works until",
    },
    Sentences {
        locale: "fr",
        message: "Bonjour {name}. Ce lien vous connecte une seule fois, dans les {hours} heures : {link} Ne le donnez à personne.",
        card: "Scannez le code avec l'appareil photo de votre téléphone, ou tapez l'adresse, puis appuyez sur le bouton. Il ne \
               sert qu'une fois. Ne le donnez à personne et détruisez cette carte ensuite.",
        until: "Valable jusqu'au",
    },
    Sentences {
        locale: "sw",
        message: "Habari {name}. Kiungo hiki kitakuingiza mara moja tu, ndani ya saa {hours}: {link} Usimpe mtu mwingine.",
        card: "Piga picha msimbo huu kwa kamera ya simu yako, au andika anwani, kisha bonyeza kitufe. Unatumika mara moja tu. \
               Usimpe mtu mwingine, na uharibu kadi hii baadaye.",
        until: "Mwisho wa kutumika",
    },
    Sentences {
        locale: "es",
        message: "Hola {name}. Este enlace le da acceso una sola vez, en las próximas {hours} horas: {link} No se lo dé a nadie.",
        card: "Escanee el código con la cámara de su teléfono, o escriba la dirección, y pulse el botón. Sirve una sola vez. No \
               se lo dé a nadie y destruya esta tarjeta después.",
        until: "Válido hasta",
    },
    Sentences {
        locale: "pt",
        message: "Olá {name}. Esta ligação dá-lhe acesso uma única vez, nas próximas {hours} horas: {link} Não a dê a ninguém.",
        card: "Leia o código com a câmara do seu telefone, ou escreva o endereço, e prima o botão. Serve uma única vez. Não o dê \
               a ninguém e destrua este cartão depois.",
        until: "Válido até",
    },
];

/// `sw` of `sw-TZ` or `sw_TZ`.
fn language(locale: &str) -> &str {
    locale.split(['-', '_']).next().unwrap_or_default()
}

/// The sentences of the first of these languages that is built in; else English.
#[must_use]
pub fn sentences<'l>(wanted: impl IntoIterator<Item = &'l str>) -> &'static Sentences {
    let mut found = wanted.into_iter().filter_map(|locale| {
        let language = language(locale).to_ascii_lowercase();
        BUILT_IN.iter().find(|sentences| sentences.locale == language)
    });
    found.next().unwrap_or(&BUILT_IN[0])
}

/// What a message tells.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// What the person is called.
    pub name: &'a str,
    /// The address.
    pub link: &'a str,
    /// When it stops working, in seconds since 1970.
    pub expires: u64,
    /// Seconds since 1970.
    pub now: u64,
}

/// The text of a message. `own`: the programme's texts by language, which go before those that are built in.
#[must_use]
pub fn message(own: &BTreeMap<String, String>, wanted: &[&str], told: Told<'_>) -> String {
    let of = |locale: &&str| {
        let own = own.get(*locale).or_else(|| own.get(language(locale)));
        own.map(String::as_str)
            .or_else(|| BUILT_IN.iter().find(|known| known.locale == language(locale)).map(|known| known.message))
    };
    let english = || own.get("en").map_or(BUILT_IN[0].message, String::as_str);
    fill(wanted.iter().find_map(of).unwrap_or_else(english), told)
}

/// Fills a text in one pass: a name with braces stays as it is.
fn fill(text: &str, told: Told<'_>) -> String {
    let mut filled = String::with_capacity(text.len() + told.link.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
        match name {
            "name" => filled.push_str(told.name),
            "link" => filled.push_str(told.link),
            "hours" => filled.push_str(&(told.expires.saturating_sub(told.now) / 3600).max(1).to_string()),
            "expires" => filled.push_str(&plain_date(told.expires)),
            _ => {}
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_in_their_language_with_what_belongs_into_the_text() {
        let told = Told { name: "{link} Bea", link: "http://h/_links/T", expires: 7_300, now: 0 };
        let own = BTreeMap::from([("sw".to_owned(), "Karibu {name}: {link} ({expires})".to_owned())]);
        let none = BTreeMap::new();
        assert_eq!(
            message(&own, &["sw-TZ"], told),
            "Karibu {link} Bea: http://h/_links/T (1970-01-01 02:01 UTC)",
            "a name is no text to be filled"
        );
        assert!(message(&none, &["sw_TZ"], told).starts_with("Habari {link} Bea."));
        assert!(message(&none, &["xx", "fr"], told).contains("dans les 2 heures : http://h/_links/T Ne"));
        assert!(message(&none, &["xx"], told).starts_with("Hello"));
        assert_eq!(sentences(["xx", "ES"]).locale, "es");
        assert_eq!(sentences([]).locale, "en");
    }

    #[test]
    fn every_language_says_everything() {
        for sentences in BUILT_IN {
            assert!(sentences.message.contains("{link}") && sentences.message.contains("{name}"), "{sentences:?}");
            assert!(!sentences.card.is_empty() && !sentences.until.is_empty(), "{sentences:?}");
        }
    }
}
