//! One function per endpoint: parse, one call downward, write the answer. No rule is decided here.

mod account_changes;
mod accounts;
mod attachment;
mod bulk_get;
mod custody;
mod database;
mod devices;
mod document;
mod draining;
mod grants;
mod links;
mod local;
mod manifests;
mod node;
mod pull;
mod push;
mod server;
mod session;
mod stewards;
mod users;
mod wipes;

use settle_protocol::{Error, ErrorKind};

use super::endpoint::Endpoint;
use super::error::HttpError;
use super::pipeline::Context;
use super::response::Answer;
use crate::accounts::tables::Closed;
use crate::documents::listing::Extent;

/// What a handler answers.
type Handled = Result<Answer, HttpError>;

/// Calls the handler of an endpoint.
pub(crate) async fn call(endpoint: Endpoint, context: &mut Context) -> Handled {
    match endpoint {
        Endpoint::Welcome => Ok(server::welcome(context)),
        Endpoint::Up => Ok(server::up(context)),
        Endpoint::Uuids => server::uuids(context),
        Endpoint::AllDatabases => server::all_databases(context),
        Endpoint::DatabasesInfo => server::databases_info(context).await,
        Endpoint::ActiveTasks => Ok(server::active_tasks(context)),
        Endpoint::Membership => Ok(server::membership()),
        Endpoint::ClusterSetup => Ok(Answer::json(200, &b"{\"state\":\"single_node_enabled\"}"[..])),
        Endpoint::Backup => node::backup(context).await,
        Endpoint::SessionInfo => session::info(context),
        Endpoint::LogIn => session::log_in(context).await,
        Endpoint::LogOut => session::log_out(context).await,
        Endpoint::OwnDevice => devices::own(context),
        Endpoint::TellOfDevice => devices::tell(context).await,
        Endpoint::ReportWipe => wipes::report(context).await,
        Endpoint::ListDevices => devices::list(context),
        Endpoint::ReadDevice => devices::read(context),
        Endpoint::RetireDevice => devices::withdraw(context, devices::End::Retire).await,
        Endpoint::CutDevice => devices::withdraw(context, devices::End::Cut).await,
        Endpoint::WipeDevice => wipes::order(context).await,
        Endpoint::HandoverKey => Ok(manifests::key(context)),
        Endpoint::ChangePassword => accounts::change_password(context).await,
        Endpoint::DisableAccount => accounts::close(context, Closed::Disabled).await,
        Endpoint::EnableAccount => accounts::close(context, Closed::Open).await,
        Endpoint::RetireAccount => accounts::close(context, Closed::Retired).await,
        Endpoint::ListGrants => grants::list(context),
        Endpoint::MakeGrant => grants::make(context).await,
        Endpoint::RevokeGrant => grants::revoke(context).await,
        Endpoint::CutAccount => accounts::cut(context).await,
        people @ (Endpoint::ListAccounts
        | Endpoint::CreateAccount
        | Endpoint::ReadAccount
        | Endpoint::PutAccount
        | Endpoint::ChangeAccount
        | Endpoint::DeleteAccount
        | Endpoint::MakeLink
        | Endpoint::ShowLink
        | Endpoint::UseLink
        | Endpoint::ReplaceHolder
        | Endpoint::RenameHolder
        | Endpoint::HandOver
        | Endpoint::UndoReplace
        | Endpoint::ReadCustody) => call_about_people(people, context).await,
        Endpoint::NodeName => node::name(context),
        Endpoint::NodeFacts => node::facts(context),
        Endpoint::Metrics => Ok(node::metrics(context)),
        Endpoint::ReadConfig => node::read_config(context),
        Endpoint::WriteConfig => node::write_config(context).await,
        Endpoint::ReloadConfig => Ok(Answer::ok(200)),
        Endpoint::DatabaseInfo => database::info(context),
        Endpoint::CreateDatabase => database::create(context).await,
        Endpoint::DeleteDatabase => database::delete(context).await,
        Endpoint::EnsureFullCommit => database::ensure_full_commit(context),
        Endpoint::ReadSecurity => database::read_security(context),
        Endpoint::WriteSecurity => database::write_security(context).await,
        Endpoint::ReadRevsLimit => database::read_limit(context, false),
        Endpoint::WriteRevsLimit => database::write_limit(context, false).await,
        Endpoint::ReadPurgedInfosLimit => database::read_limit(context, true),
        Endpoint::WritePurgedInfosLimit => database::write_limit(context, true).await,
        Endpoint::Compact => database::compact(context),
        Endpoint::CompactView => Err(Error::missing().into()),
        Endpoint::ViewCleanup => context.request.require_json().map(|()| Answer::ok(202)).map_err(Into::into),
        Endpoint::Purge => database::purge(context).await,
        Endpoint::PurgedInfos => database::purged_infos(context),
        Endpoint::Manifest => manifests::receive(context).await,
        Endpoint::ReadManifest => manifests::read(context),
        Endpoint::Reconcile => stewards::reconcile(context).await,
        Endpoint::ListEscrow => stewards::list_escrow(context),
        Endpoint::ReadEscrow => stewards::read_escrow(context),
        Endpoint::DecideEscrow => stewards::decide(context).await,
        Endpoint::MovePlace => stewards::move_place(context).await,
        Endpoint::Changes => pull::changes(context).await,
        Endpoint::BulkGet => bulk_get::bulk_get(context).await,
        Endpoint::AllDocs => pull::listing(context, Extent::All).await,
        Endpoint::AllDocsQueries => pull::listing_queries(context, Extent::All).await,
        Endpoint::DesignDocs => pull::listing(context, Extent::Design).await,
        Endpoint::DesignDocsQueries => pull::listing_queries(context, Extent::Design).await,
        Endpoint::LocalDocs => local::list(context).await,
        Endpoint::LocalDocsQueries => local::list_queries(context).await,
        Endpoint::RevsDiff => push::revs_diff(context).await,
        Endpoint::MissingRevs => push::missing_revs(context).await,
        Endpoint::BulkDocs => push::bulk_docs(context).await,
        Endpoint::PostDocument => document::post(context).await,
        Endpoint::ReadLocal => local::read(context),
        Endpoint::WriteLocal => local::write(context).await,
        Endpoint::DeleteLocal => local::delete(context).await,
        Endpoint::LocalAttachment => Err(Error::bad_request("_local documents do not accept attachments.").into()),
        Endpoint::ReadDocument | Endpoint::ReadDesign => document::read(context).await,
        Endpoint::WriteDocument | Endpoint::WriteDesign => document::write(context).await,
        Endpoint::FormUpload => Err(Error::bad_request("Referer header required.").into()),
        Endpoint::DeleteDocument | Endpoint::DeleteDesign => document::delete(context).await,
        Endpoint::CopyDocument | Endpoint::CopyDesign => document::copy(context).await,
        Endpoint::ReadAttachment | Endpoint::ReadDesignAttachment => attachment::read(context),
        Endpoint::WriteAttachment | Endpoint::WriteDesignAttachment => attachment::write(context).await,
        Endpoint::UnknownUnderDatabase => document::unknown(context),
        Endpoint::TemporaryView => {
            Err(Error::new(ErrorKind::Gone, "Temporary views are not supported in CouchDB").into())
        }
        Endpoint::QueryNotYet => not_yet("Queries (`_find`, `_index`, `_explain`) and partitions"),
        Endpoint::FunctionNotYet => not_yet("Views and other functions of design documents"),
        Endpoint::ServerNotYet => not_yet("Server-side replication, database updates and the web interface"),
    }
}

/// Calls the handler of an endpoint that is about accounts, links, and who holds a place.
async fn call_about_people(endpoint: Endpoint, context: &mut Context) -> Handled {
    match endpoint {
        Endpoint::ListAccounts => account_changes::list(context),
        Endpoint::CreateAccount => account_changes::create(context).await,
        Endpoint::ReadAccount => account_changes::read(context),
        Endpoint::PutAccount => account_changes::put(context).await,
        Endpoint::ChangeAccount => account_changes::change(context).await,
        Endpoint::DeleteAccount => account_changes::delete(context).await,
        Endpoint::MakeLink => links::make(context).await,
        Endpoint::ShowLink => Ok(links::show(context)),
        Endpoint::UseLink => links::redeem(context).await,
        Endpoint::ReplaceHolder => custody::replace(context).await,
        Endpoint::RenameHolder => custody::rename_holder(context).await,
        Endpoint::HandOver => custody::hand_over(context).await,
        Endpoint::UndoReplace => custody::undo(context).await,
        Endpoint::ReadCustody => custody::read(context),
        _ => Err(Error::missing().into()),
    }
}

fn not_yet(what: &str) -> Handled {
    let reason = format!("{what} are not available in this version of Settle.");
    Err(Error::new(ErrorKind::NotImplemented, reason).into())
}

/// The id of the document in the path, and the number of segments up to its end.
fn document_id(context: &Context) -> (String, usize) {
    let request = &context.request;
    match request.segment(1) {
        design @ "_design" => (format!("{design}/{}", request.segment(2)), 3),
        id => (id.to_owned(), 2),
    }
}

/// A segment of a path as a `Location` header writes it.
fn escaped(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
    utf8_percent_encode(text, KEPT).to_string()
}
