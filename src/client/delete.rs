//! `delete`: files on a server that allows writes.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request};

use super::connection::Connection;
use super::name::RemoteName;
use super::report::{Done, Report};
use super::{Error, Settings, jobs};

/// Deletes the files one after the other, each only if it has one of the entity tags of `if_match`, where that is
/// given.
pub async fn delete(
    settings: Arc<Settings>,
    names: Vec<RemoteName>,
    if_match: Option<HeaderValue>,
    report: Arc<Report>,
) {
    let work = async move |connection: &mut Connection, name: &RemoteName| {
        delete_one(connection, name, if_match.as_ref()).await
    };
    jobs::run("delete", settings, names, 1, &report, work).await;
}

async fn delete_one(
    connection: &mut Connection,
    name: &RemoteName,
    if_match: Option<&HeaderValue>,
) -> Result<Done, Error> {
    let build = |_| {
        let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *request.method_mut() = Method::DELETE;
        request.headers_mut().extend(if_match.map(|tags| (header::IF_MATCH, tags.clone())));
        Ok(request)
    };
    let response = connection.send(&name.target(), connection.timeout(), build).await?;
    if !response.status().is_success() {
        return Err(connection.refused(response).await);
    }
    connection.words(response.into_body()).await;
    Ok(Done { what: "deleted", bytes: None, note: None })
}
