//! One function per endpoint: parse, one call downward, write the answer. No rule is decided here.

mod account_changes;
mod accounts;
mod attachment;
mod audit;
mod bulk_accounts;
mod bulk_get;
mod custody;
mod database;
mod devices;
mod document;
mod draining;
mod glass;
mod grants;
mod links;
mod local;
mod manifests;
mod metrics;
mod node;
mod outbox;
mod pull;
mod push;
mod radar;
mod reach;
mod restore;
mod second_person;
mod server;
pub(super) mod session;
mod sheets;
mod stewards;
mod users;
mod wipes;

use settle_protocol::{Error, ErrorKind};

use super::console;
use super::endpoint::Endpoint;
use super::error::HttpError;
use super::pipeline::Context;
use super::response::Answer;
use crate::accounts::tables::Closed;
use crate::documents::listing::Extent;

/// What a handler answers.
type Handled = Result<Answer, HttpError>;

/// Writes the two functions below out of the lines that say which endpoint has which handler. The first match names every line, so
/// an endpoint without one does not compile.
macro_rules! dispatch {
    ($context:ident, { $($endpoint:pat => $answer:expr,)* }, { $($about_people:pat => $told:expr,)* }) => {
        /// Calls the handler of an endpoint.
        pub(crate) async fn call(endpoint: Endpoint, $context: &mut Context) -> Handled {
            match endpoint {
                $($endpoint => $answer,)*
                people @ ($($about_people)|*) => Box::pin(call_about_people(people, $context)).await,
            }
        }

        /// Devices, accounts, grants, links, and who holds a place.
        async fn call_about_people(endpoint: Endpoint, $context: &mut Context) -> Handled {
            match endpoint {
                $($about_people => $told,)*
                _ => Err(Error::missing().into()), // never: see above
            }
        }
    };
}

// Boxed: else every request would carry the room of the largest. Those about people are boxed together.
dispatch! {
    context,
    {
        Endpoint::Welcome => Ok(server::welcome(context)),
        Endpoint::Up => Ok(server::up(context)),
        Endpoint::Uuids => server::uuids(context),
        Endpoint::AllDatabases => server::all_databases(context),
        Endpoint::DatabasesInfo => Box::pin(server::databases_info(context)).await,
        Endpoint::ActiveTasks => Ok(server::active_tasks(context)),
        Endpoint::Membership => Ok(server::membership()),
        Endpoint::ClusterSetup => Ok(Answer::json(200, &b"{\"state\":\"single_node_enabled\"}"[..])),
        Endpoint::Backup => Box::pin(node::backup(context)).await,
        Endpoint::ConfirmRestore => Box::pin(restore::confirm(context)).await,
        Endpoint::LostReceipts => restore::lost_receipts(context),
        Endpoint::ReadAudit => Box::pin(audit::read(context)).await,
        Endpoint::VerifyAudit => Box::pin(audit::verify(context)).await,
        Endpoint::SessionInfo => session::info(context),
        Endpoint::LogIn => Box::pin(session::log_in(context)).await,
        Endpoint::LogOut => Box::pin(session::log_out(context)).await,
        Endpoint::HandoverKey => Ok(manifests::key(context)),
        Endpoint::NodeName => node::name(context),
        Endpoint::NodeFacts => node::facts(context),
        Endpoint::Metrics => Box::pin(metrics::metrics(context)).await,
        Endpoint::ReadConfig => node::read_config(context),
        Endpoint::WriteConfig => Box::pin(node::write_config(context)).await,
        Endpoint::ReloadConfig => Ok(Answer::ok(200)),
        Endpoint::DatabaseInfo => database::info(context),
        Endpoint::CreateDatabase => Box::pin(database::create(context)).await,
        Endpoint::DeleteDatabase => Box::pin(database::delete(context)).await,
        Endpoint::EnsureFullCommit => database::ensure_full_commit(context),
        Endpoint::ReadSecurity => database::read_security(context),
        Endpoint::WriteSecurity => Box::pin(database::write_security(context)).await,
        Endpoint::ReadRevsLimit => database::read_limit(context, false),
        Endpoint::WriteRevsLimit => Box::pin(database::write_limit(context, false)).await,
        Endpoint::ReadPurgedInfosLimit => database::read_limit(context, true),
        Endpoint::WritePurgedInfosLimit => Box::pin(database::write_limit(context, true)).await,
        Endpoint::Compact => database::compact(context),
        Endpoint::CompactView => Err(Error::missing().into()),
        Endpoint::ViewCleanup => context.request.require_json().map(|()| Answer::ok(202)).map_err(Into::into),
        Endpoint::Purge => Box::pin(database::purge(context)).await,
        Endpoint::PurgedInfos => database::purged_infos(context),
        Endpoint::Manifest => Box::pin(manifests::receive(context)).await,
        Endpoint::ReadManifest => manifests::read(context),
        Endpoint::Reconcile => Box::pin(stewards::reconcile(context)).await,
        Endpoint::ListEscrow => stewards::list_escrow(context),
        Endpoint::ReadEscrow => stewards::read_escrow(context),
        Endpoint::DecideEscrow => Box::pin(stewards::decide(context)).await,
        Endpoint::MovePlace => Box::pin(stewards::move_place(context)).await,
        Endpoint::Changes => Box::pin(pull::changes(context)).await,
        Endpoint::BulkGet => Box::pin(bulk_get::bulk_get(context)).await,
        Endpoint::AllDocs => Box::pin(pull::listing(context, Extent::All)).await,
        Endpoint::AllDocsQueries => Box::pin(pull::listing_queries(context, Extent::All)).await,
        Endpoint::DesignDocs => Box::pin(pull::listing(context, Extent::Design)).await,
        Endpoint::DesignDocsQueries => Box::pin(pull::listing_queries(context, Extent::Design)).await,
        Endpoint::LocalDocs => Box::pin(local::list(context)).await,
        Endpoint::LocalDocsQueries => Box::pin(local::list_queries(context)).await,
        Endpoint::RevsDiff => Box::pin(push::revs_diff(context)).await,
        Endpoint::MissingRevs => Box::pin(push::missing_revs(context)).await,
        Endpoint::BulkDocs => Box::pin(push::bulk_docs(context)).await,
        Endpoint::PostDocument => Box::pin(document::post(context)).await,
        Endpoint::ReadLocal => local::read(context),
        Endpoint::WriteLocal => Box::pin(local::write(context)).await,
        Endpoint::DeleteLocal => Box::pin(local::delete(context)).await,
        Endpoint::LocalAttachment => Err(Error::bad_request("_local documents do not accept attachments.").into()),
        Endpoint::ReadDocument | Endpoint::ReadDesign => document::read(context),
        Endpoint::WriteDocument | Endpoint::WriteDesign => Box::pin(document::write(context)).await,
        Endpoint::FormUpload => Err(Error::bad_request("Referer header required.").into()),
        Endpoint::DeleteDocument | Endpoint::DeleteDesign => Box::pin(document::delete(context)).await,
        Endpoint::CopyDocument | Endpoint::CopyDesign => Box::pin(document::copy(context)).await,
        Endpoint::ReadAttachment | Endpoint::ReadDesignAttachment => attachment::read(context),
        Endpoint::WriteAttachment | Endpoint::WriteDesignAttachment => Box::pin(attachment::write(context)).await,
        Endpoint::UnknownUnderDatabase => document::unknown(context),
        Endpoint::TemporaryView => {
            Err(Error::new(ErrorKind::Gone, "Temporary views are not supported in CouchDB").into())
        },
        Endpoint::QueryNotYet => not_yet("Queries (`_find`, `_index`, `_explain`) and partitions"),
        Endpoint::FunctionNotYet => not_yet("Views and other functions of design documents"),
        Endpoint::Console => Box::pin(console::answer(context)).await,
        Endpoint::ConsoleElsewhere => Ok(console::elsewhere(context)),
        Endpoint::ServerNotYet => not_yet("Server-side replication and database updates"),
    },
    {
        Endpoint::OwnDevice => devices::own(context),
        Endpoint::TellOfDevice => devices::tell(context).await,
        Endpoint::ReportWipe => wipes::report(context).await,
        Endpoint::ListDevices => radar::list(context).await,
        Endpoint::ReadDevice => radar::read(context),
        Endpoint::DeviceExposure => radar::exposure(context).await,
        Endpoint::RetireDevice => devices::withdraw(context, devices::End::Retire).await,
        Endpoint::CutDevice => devices::withdraw(context, devices::End::Cut).await,
        Endpoint::WipeDevice => wipes::order(context).await,
        Endpoint::ChangePassword => accounts::change_password(context).await,
        Endpoint::DisableAccount => accounts::close(context, Closed::Disabled).await,
        Endpoint::EnableAccount => accounts::close(context, Closed::Open).await,
        Endpoint::RetireAccount => accounts::close(context, Closed::Retired).await,
        Endpoint::ListGrants => grants::list(context),
        Endpoint::MakeGrant => grants::make(context).await,
        Endpoint::RevokeGrant => grants::revoke(context).await,
        Endpoint::CutAccount => accounts::cut(context).await,
        Endpoint::ListAccounts => account_changes::list(context),
        Endpoint::CreateAccount => account_changes::create(context).await,
        Endpoint::ReachOfAccount => reach::read(context).await,
        Endpoint::ReadAccount => account_changes::read(context),
        Endpoint::PutAccount => account_changes::put(context).await,
        Endpoint::ChangeAccount => account_changes::change(context).await,
        Endpoint::DeleteAccount => account_changes::delete(context).await,
        Endpoint::MakeLink => links::make(context).await,
        Endpoint::BulkAccounts => bulk_accounts::bulk(context).await,
        Endpoint::PrintSheet => sheets::print(context).await,
        Endpoint::ListOutbox => outbox::list(context),
        Endpoint::RetryMessage => outbox::change(context, outbox::Act::Retry).await,
        Endpoint::CancelMessage => outbox::change(context, outbox::Act::Cancel).await,
        Endpoint::ShowLink => Ok(links::show(context)),
        Endpoint::UseLink => links::redeem(context).await,
        Endpoint::ReplaceHolder => custody::replace(context).await,
        Endpoint::RenameHolder => custody::rename_holder(context).await,
        Endpoint::HandOver => custody::hand_over(context).await,
        Endpoint::UndoReplace => custody::undo(context).await,
        Endpoint::ReadCustody => custody::read(context),
        Endpoint::Confirmations => second_person::list(context),
        Endpoint::BreakGlass => glass::break_it(context).await,
        Endpoint::BrokenGlass => glass::list(context),
        Endpoint::EndGlass => glass::end(context).await,
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

/// A segment of a path, or a value of a query, as an address writes it.
pub(super) fn escaped(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
    utf8_percent_encode(text, KEPT).to_string()
}
