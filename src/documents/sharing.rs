//! A place lent to somebody who has no account: the grant makes one, with a link and nothing else, and ends it (design §7.4).
//!
//! Whoever may grant the place may do so, within their own rights: the newcomer gets no place, no password, and no role that the
//! granter lacks. Administrators give the roles that they may give.

use settle_protocol::{Error, ErrorKind};

use super::accounts::{Created, Desk, NewAccount, create_as};
use super::administration::{charge_of, first_beyond, is_guarded, not_yours_to_give};
use super::databases::Database;
use super::error::DocumentResult;
use super::grants::{self, Grant};
use crate::storage::Batch;

/// Accounts that one granter who manages none may have made in this way at the same time.
const MOST_SHARED: usize = 20;

/// Makes a grant to somebody new, with their account and its link, which is sent if they say so.
///
/// # Errors
/// As [`grants::make`]; `400` for roles that are missing, `403` for roles that are not the granter's to give and for too many
/// newcomers, `409` for a name that is taken.
pub fn share(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    database: &Database,
    grant: &Grant,
    newcomer: &NewAccount,
) -> DocumentResult<(Grant, Created)> {
    let by_administrator = charge_of(batch, &desk.caller)?.covers_place(batch, &grant.place)?;
    let roles = roles_of(desk, newcomer, by_administrator)?;
    if !by_administrator {
        let live = |known: &Grant| {
            known.drain.is_some() && known.granted_by == grant.granted_by && known.state(desk.actor.now) != "ended"
        };
        let shared = grants::list(batch, None)?.iter().filter(|known| known.revoked_at == 0 && live(known)).count();
        if shared >= MOST_SHARED {
            let reason =
                format!("You share with {MOST_SHARED} people without an account already: revoke a grant first.");
            return Err(Error::new(ErrorKind::Forbidden, reason).into());
        }
    }
    // Not longer than the grant: who comes later finds nothing.
    let left = grant.until.saturating_sub(desk.actor.now);
    let desk = Desk { link_seconds: desk.link_seconds.min(left), ..desk.clone() };
    let account =
        NewAccount { roles, credential: None, places: Vec::new(), contact: None, link: true, ..newcomer.clone() };
    let created = create_as(batch, &desk, &account)?;
    let grant = Grant { to: created.name.clone(), by_administrator, drain: Some(desk.drain), ..grant.clone() };
    grants::make(batch, database, &grant, desk.actor.now)?;
    Ok((grant, created))
}

/// The roles that the newcomer gets.
fn roles_of(desk: &Desk<'_>, newcomer: &NewAccount, by_administrator: bool) -> DocumentResult<Vec<String>> {
    let own = &desk.caller.roles;
    if !by_administrator && newcomer.roles.is_empty() {
        return Ok(own.iter().filter(|role| !is_guarded(role)).cloned().collect());
    }
    let beyond = match by_administrator {
        true => first_beyond(&desk.caller, &newcomer.roles),
        false => newcomer.roles.iter().find(|role| is_guarded(role) || !own.contains(role)).map(String::as_str),
    };
    match beyond {
        Some(role) => Err(not_yours_to_give(role).into()),
        None => Ok(newcomer.roles.clone()),
    }
}
