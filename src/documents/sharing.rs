//! A place lent to somebody who has no account: the grant makes one, with a link and nothing else, and ends it (design §7.4).
//!
//! Whoever may grant the place may do so, within their own rights: the newcomer gets no place, no password, and no role that the
//! granter lacks. Administrators give the roles that they may give.

use settle_protocol::{Error, ErrorKind};

use super::accounts::{Created, Desk, NewAccount, create_as};
use super::administration::{Charge, charge_of, first_beyond};
use super::databases::Database;
use super::error::DocumentResult;
use super::grants::{self, Grant};
use super::scopes::STEWARD;
use crate::access::scope::ADMINISTRATIVE_ROLES;
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
    let charge = charge_of(batch, &desk.caller)?;
    let by_administrator = charge != Charge::Nobody && charge.covers_place(batch, &grant.place)?;
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
    let of_the_field =
        |role: &&String| !role.starts_with('_') && *role != STEWARD && !ADMINISTRATIVE_ROLES.contains(&role.as_str());
    if by_administrator {
        return match first_beyond(&desk.caller, &newcomer.roles) {
            Some(role) => Err(Error::forbidden(format!("The role {role} is not yours to give.")).into()),
            None => Ok(newcomer.roles.clone()),
        };
    }
    if newcomer.roles.is_empty() {
        return Ok(own.iter().filter(of_the_field).cloned().collect());
    }
    match newcomer.roles.iter().find(|role| !of_the_field(role) || !own.contains(role)) {
        Some(role) => Err(Error::forbidden(format!("The role {role} is not yours to give.")).into()),
        None => Ok(newcomer.roles.clone()),
    }
}
