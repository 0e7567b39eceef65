//! Which request goes where, and who may.

use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::mpsc;

use super::answer::{Answer, Body, Content, Tally};
use super::outbound::Outbound;
use super::parts::{circumstances, host_of};
use super::plane::{ControlPlane, unauthorized};
use super::request_body::RequestBody;
use super::socket::Answering;
use crate::exchange::route;
use crate::http::response::Problem;
use crate::http::target::Target;
use crate::limits;
use crate::net::peer::Peer;
use crate::origin::Visibility;
use crate::origin::names::visibility;
use crate::origin::remote::{Interim, Passing};
use crate::server::hosts::{Asker, Stranger};

/// What is known of a request beside itself.
pub(super) struct Asked {
    pub peer: Peer,
    /// It stands in for one whose head is refused.
    pub refused: Option<Problem>,
    /// The origin's answer to it, if there is one already.
    pub passing: Option<Arc<Passing>>,
}

impl ControlPlane {
    /// Answers one request; or, where it stands in for one whose head is refused, gives that refusal.
    pub async fn answer(
        self: Rc<Self>,
        asked: Asked,
        request: Request<Incoming>,
        answering: Answering,
        outbound: Rc<Outbound>,
    ) -> Response<Body> {
        let Asked { peer, refused, passing } = asked;
        if let Some(problem) = refused {
            let tally = Tally::refused(self.shared.clone(), peer);
            return Answer::of_refused_head(problem).into_response(tally, answering, &outbound);
        }
        let (mut parts, body) = request.into_parts();
        let body = RequestBody::new(body, parts.headers.contains_key(header::EXPECT));
        let rest = body.rest();
        parts.extensions.insert(peer);
        let tally = Tally::new(self.shared.clone(), peer, &parts);
        let mut interim = self.wants_interim(&mut parts);
        let mut dispatched = std::pin::pin!(self.dispatch(peer, &parts, body, passing));
        let (Ok(mut answer) | Err(mut answer)) = loop {
            tokio::select! {
                biased;
                Some(head) = interim.recv() => outbound.inform(&head),
                answer = &mut dispatched => break answer,
            }
        };
        while let Ok(head) = interim.try_recv() {
            outbound.inform(&head);
        }
        if matches!(parts.method, Method::GET | Method::HEAD)
            && matches!(answer.content, Content::Whole(_))
            && let Some(page) = self.shared.site.said().page(answer.status.as_u16())
        {
            answer = answer.with_page(page);
        }
        // One that did not come in its time is not waited for again.
        if answer.status == StatusCode::REQUEST_TIMEOUT || !rest.read_out().await {
            answer.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer.into_response(tally, answering, &outbound)
    }

    /// Has the interim responses of a remote origin come by a channel, if the client knows such (RFC 9110, 15.2).
    fn wants_interim(&self, parts: &mut Parts) -> mpsc::Receiver<Arc<[u8]>> {
        let (sender, receiver) = mpsc::channel(limits::INTERIM_RESPONSES);
        if parts.version == Version::HTTP_11 && self.shared.fetcher().is_some() {
            // Beyond those that the channel holds they are left out.
            parts.extensions.insert(Interim::new(move |head| drop(sender.try_send(head))));
        }
        receiver
    }

    /// The answer; as an error where it is a refusal, which saves a level of nesting and means nothing more.
    async fn dispatch(
        self: &Rc<Self>,
        peer: Peer,
        parts: &Parts,
        body: RequestBody,
        passing: Option<Arc<Passing>>,
    ) -> Result<Answer, Answer> {
        self.shared.guard.hosts().admit(host_of(parts)).map_err(strange)?;
        if self.shared.origin.remote().is_some() {
            return self.dispatch_remote(peer, parts, body, passing).await;
        }
        match parts.method {
            Method::GET | Method::HEAD => self.read_target(parts).await,
            Method::PUT | Method::DELETE => {
                let name = self.admit_write(self.target(parts)?, peer, parts).await?;
                match parts.method {
                    Method::PUT => self.put(&name, parts, body).await,
                    _ => self.delete(&name, parts).await,
                }
            }
            Method::OPTIONS => self.options(parts).await,
            _ => {
                let target = self.target(parts).ok();
                if let Some(target) = &target {
                    self.admit_read(target, &parts.headers)?;
                }
                let text = format!("{} is not a method that is served here", parts.method);
                Err(self.not_allowed(target.as_ref(), text).await)
            }
        }
    }

    async fn read_target(self: &Rc<Self>, parts: &Parts) -> Result<Answer, Answer> {
        let target = route::read(parts.uri.path().as_bytes(), self.shared.origin.policy());
        let target = target.map_err(|refusal| self.shared.site.said().answer(&refusal, circumstances(parts)))?;
        self.admit_read(&target, &parts.headers)?;
        admit_worker(parts)?;
        let (name, result) = match target {
            Target::Reserved(page) => return self.page(&page).await,
            Target::File(name) => (name.clone(), self.file(&name, parts).await),
            Target::Directory(name) => {
                let result = match (self.directory(&name, parts).await, &self.shared.fallback) {
                    (Err(answer), Some(fallback)) if answer.status == StatusCode::NOT_FOUND => {
                        self.file(fallback.name(), parts).await
                    }
                    (result, _) => result,
                };
                (name, result)
            }
        };
        let (Ok(answer) | Err(answer)) = result;
        Ok(answer.with_rules(&self.shared.site.said().rules, &name, circumstances(parts).origin))
    }

    /// The answer of a server whose origin is on another machine.
    async fn dispatch_remote(
        self: &Rc<Self>,
        peer: Peer,
        parts: &Parts,
        body: RequestBody,
        passing: Option<Arc<Passing>>,
    ) -> Result<Answer, Answer> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let store = self.shared.origin.remote().filter(|remote| remote.is_store());
        let target = route::read_remote(target.as_bytes(), store.is_some());
        let target = target.map_err(|refusal| Answer::from(refusal.problem()))?;
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        match target {
            route::Remote::Reserved(page) if is_read => {
                self.admit_read(&Target::Reserved(page.as_ref().into()), &parts.headers)?;
                self.page(&page).await
            }
            route::Remote::Stored(key) if is_read => {
                self.admit_read(&Target::File(key.as_ref().into()), &parts.headers)?;
                self.stored(&key, parts, passing).await
            }
            route::Remote::Prefix(name) if is_read => {
                self.admit_read(&Target::Directory(name.as_ref().into()), &parts.headers)?;
                if let Some(answer) = self.index_object(&name, parts, passing).await? {
                    return Ok(answer);
                }
                let place = self.shared.origin.remote().filter(|_| self.shared.options.listings);
                let forbidden =
                    || Answer::problem(StatusCode::FORBIDDEN, "directories are not listed here (--no-listing)");
                self.prefix(place.ok_or_else(forbidden)?, &name, parts).await
            }
            route::Remote::Stored(key) if store.is_none() => self.forward(&key, parts, body).await,
            route::Remote::Stored(key) => self.write_object(Some(&key), peer, parts, body).await,
            route::Remote::Prefix(_) => self.write_object(None, peer, parts, body).await,
            route::Remote::Reserved(_) => {
                let text = format!("{} is not a method of the server's own pages", parts.method);
                Err(Answer::problem(StatusCode::METHOD_NOT_ALLOWED, text).with(header::ALLOW, "GET, HEAD"))
            }
        }
    }

    /// Whether there are writes, the client may, and the target is one: then its name.
    pub(super) async fn admit_write(&self, target: Target<'_>, peer: Peer, parts: &Parts) -> Result<Vec<u8>, Answer> {
        let headers = &parts.headers;
        if !self.shared.options.allow_writes {
            let text = "uploads and deletes are off; start the server with --allow-writes to have them";
            return Err(self.not_allowed(Some(&target), text).await);
        }
        let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        if !self.shared.guard.admits_write(authorization) {
            return Err(unauthorized(authorization));
        }
        if !self.shared.guard.has_token() {
            let value = |name| headers.get(name).map(HeaderValue::as_bytes);
            let (origin, site) = (value(header::ORIGIN), value(HeaderName::from_static("sec-fetch-site")));
            let asker = Asker { host: host_of(parts), origin, site };
            self.shared.guard.hosts().admit_write(&asker, peer).map_err(strange)?;
        }
        match target {
            Target::File(name) => match visibility(&name) {
                Visibility::Reserved => {
                    Err(Answer::problem(StatusCode::FORBIDDEN, "names of this form are the server's own"))
                }
                Visibility::Hidden if !self.shared.origin.policy().hidden => Err(Answer::problem(
                    StatusCode::FORBIDDEN,
                    "a part of this name begins with a dot, and such names are not served; start the server with --hidden \
                     to have them",
                )),
                Visibility::Hidden | Visibility::Visible => Ok(name.into_owned()),
            },
            Target::Reserved(_) => {
                Err(self.not_allowed(Some(&target), "names in /.forebay/ are the server's own").await)
            }
            Target::Directory(_) => {
                Err(Answer::problem(StatusCode::CONFLICT, "a directory cannot be written; name a file in it"))
            }
        }
    }
}

/// A script at the top could be a service worker for the whole site, the server's own pages included: it would answer
/// in their place, and see the token that the dashboard is given. One in a directory is one for that directory.
fn admit_worker(parts: &Parts) -> Result<(), Answer> {
    let is_at_the_top = parts.uri.path().rfind('/') == Some(0);
    if is_at_the_top && parts.headers.contains_key(HeaderName::from_static("service-worker")) {
        let text = "a service worker of the whole site could answer in the place of the server's own pages (/.forebay/); put its \
                    script in a directory";
        return Err(Answer::problem(StatusCode::FORBIDDEN, text));
    }
    Ok(())
}

/// The refusal of a request that is meant for another host, or comes from another's page.
fn strange(stranger: Stranger) -> Answer {
    let status = match stranger {
        Stranger::Host(_) => StatusCode::MISDIRECTED_REQUEST,
        Stranger::Site(_) | Stranger::Origin(_) => StatusCode::FORBIDDEN,
    };
    Answer::problem(status, stranger)
}
