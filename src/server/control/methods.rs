//! OPTIONS, and which methods a target has.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;

use super::answer::{Answer, Content};
use super::parts::circumstances;
use super::plane::ControlPlane;
use super::pool::blocking;
use crate::http::target::Target;
use crate::origin::Visibility;
use crate::origin::names::visibility;
use crate::version::Found;

/// What every target has.
const READS: &str = "GET, HEAD, OPTIONS";
/// What a file has where writes are on, whether it is there or not.
const WRITES: &str = "GET, HEAD, PUT, DELETE, OPTIONS";

impl ControlPlane {
    /// Answers OPTIONS: a preflight by the rules for other origins, anything else with the methods of the target.
    pub async fn options(&self, parts: &Parts) -> Result<Answer, Answer> {
        let allow = match parts.uri.path() {
            // The server as a whole (RFC 9110, 9.3.7).
            "*" => self.writes_or_reads(),
            _ => {
                let target = self.target(parts)?;
                if parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
                    && let Target::File(name) | Target::Directory(name) = &target
                {
                    return Err(self.shared.site.said().preflight(name, circumstances(parts).origin).into());
                }
                // Else it would tell which names are directories.
                self.admit_read(&target, &parts.headers)?;
                self.allow(&target).await
            }
        };
        Ok(Answer::new(StatusCode::NO_CONTENT, Content::Empty).with(header::ALLOW, HeaderValue::from_static(allow)))
    }

    /// The refusal of a method that the target does not have; without one, that the server does not.
    pub async fn not_allowed(&self, target: Option<&Target<'_>>, text: impl std::fmt::Display) -> Answer {
        let allow = match target {
            Some(target) => self.allow(target).await,
            None => self.writes_or_reads(),
        };
        Answer::problem(StatusCode::METHOD_NOT_ALLOWED, text).with(header::ALLOW, HeaderValue::from_static(allow))
    }

    fn writes_or_reads(&self) -> &'static str {
        if self.shared.options.allow_writes { WRITES } else { READS }
    }

    /// The methods of a target. A name that is a directory's cannot be written, with a slash at its end or without.
    async fn allow(&self, target: &Target<'_>) -> &'static str {
        let Target::File(name) = target else { return READS };
        let may_be_written = match visibility(name) {
            Visibility::Visible => true,
            Visibility::Hidden => self.shared.origin.policy().hidden,
            Visibility::Reserved => false,
        };
        if !self.shared.options.allow_writes || !may_be_written {
            return READS;
        }
        let (shared, name) = (self.shared.clone(), name.to_vec());
        match blocking(move || shared.origin.local()?.look(&name)).await {
            Ok(Ok(Found::Directory | Found::Special)) => READS,
            Ok(Ok(Found::File(_)) | Err(_)) | Err(_) => WRITES,
        }
    }
}
