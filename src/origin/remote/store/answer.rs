//! What a store says, in HTTP's terms.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use object_store::Error;

use super::super::{Answer, Body, Fault, empty};
use super::transport::{Heard, Operation, fault_in};

/// Codes by which S3 says with a status of 400 that it does not accept who asks.
const NOT_ACCEPTED: &[&str] = &[
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
];

/// Fields that a store's answer without a body may have, too.
const ABOUT_THE_OBJECT: &[HeaderName] = &[header::ETAG, header::LAST_MODIFIED, header::CACHE_CONTROL];

/// What is said with 412.
pub(super) const CONDITION_FAILED: &str = "the object is not as the request's condition wants it";

/// An answer in a line of text.
pub(super) fn text(status: StatusCode, text: impl std::fmt::Display) -> Answer {
    let line = format!("{text}\n");
    let mut answer = Response::new(empty());
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(line.len()));
    *answer.body_mut() = Full::new(Bytes::from(line)).map_err(|never| match never {}).boxed_unsync();
    answer
}

/// An answer that has no body.
pub(super) fn bare(status: StatusCode) -> Answer {
    let mut answer: Response<Body> = Response::new(empty());
    *answer.status_mut() = status;
    answer
}

/// What an operation that failed is answered with.
pub(super) fn of_error(error: &Error, operation: &Operation) -> Result<Answer, Fault> {
    let heard = operation.heard();
    if let Some(heard) = heard.as_ref().filter(|heard| !heard.by_store && fault_in(error).is_none()) {
        let text = format!("whoever gives them answered {}", heard.status);
        return Err(Fault::Credentials(text));
    }
    match error {
        Error::NotModified { .. } => {
            let mut answer = bare(StatusCode::NOT_MODIFIED);
            copy(heard.as_ref(), ABOUT_THE_OBJECT, answer.headers_mut());
            Ok(answer)
        }
        Error::Precondition { .. } | Error::AlreadyExists { .. } => {
            Ok(text(StatusCode::PRECONDITION_FAILED, CONDITION_FAILED))
        }
        Error::NotFound { .. } => Ok(missing(error)),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Ok(forbidden(error)),
        Error::InvalidPath { .. } => Ok(text(StatusCode::NOT_FOUND, "no object can have this name")),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            Ok(text(StatusCode::NOT_IMPLEMENTED, format_args!("the store cannot do this: {error}")))
        }
        _ => match (fault_in(error), heard) {
            (Some(fault), _) => Err(fault),
            (None, Some(heard)) => of_status(&heard, error),
            // Nothing was asked: there is nobody to say who this server is.
            (None, None) => Err(Fault::Credentials(error.to_string())),
        },
    }
}

/// No such object, as far as this server may know.
pub(super) fn missing(error: &Error) -> Answer {
    match code(error).as_deref() {
        Some("NoSuchBucket" | "ContainerNotFound") => text(StatusCode::NOT_FOUND, "the store has no such bucket"),
        _ => text(StatusCode::NOT_FOUND, "there is no such object"),
    }
}

fn forbidden(error: &Error) -> Answer {
    let code = code(error).unwrap_or_else(|| "no reason given".to_owned());
    text(StatusCode::FORBIDDEN, format_args!("the store refuses this with the credentials it was given ({code})"))
}

/// The answer where the crate has no word for a store's status.
fn of_status(heard: &Heard, error: &Error) -> Result<Answer, Fault> {
    let code = code(error);
    let reason = code.as_deref().unwrap_or("no reason given");
    match heard.status {
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let mut answer = bare(StatusCode::RANGE_NOT_SATISFIABLE);
            copy(Some(heard), &[header::CONTENT_RANGE], answer.headers_mut());
            Ok(answer)
        }
        status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
            let mut answer = text(status, format_args!("the store asks for fewer requests ({reason})"));
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            copy(Some(heard), &[header::RETRY_AFTER], answer.headers_mut());
            Ok(answer)
        }
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => {
            Ok(text(StatusCode::GATEWAY_TIMEOUT, format_args!("the store was too slow ({reason})")))
        }
        StatusCode::BAD_REQUEST if NOT_ACCEPTED.contains(&reason) => Ok(forbidden(error)),
        StatusCode::PAYLOAD_TOO_LARGE => {
            Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "the store takes no object this large"))
        }
        StatusCode::INSUFFICIENT_STORAGE => Ok(text(StatusCode::INSUFFICIENT_STORAGE, "the store is full")),
        status if status.is_redirection() => {
            let region = heard.fields.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
            let advice = match region {
                Some(region) => format!("; the bucket is in the region {region}, which AWS_REGION must name"),
                None => String::new(),
            };
            Ok(text(StatusCode::BAD_GATEWAY, format_args!("the store has the bucket elsewhere{advice}")))
        }
        status if status.is_success() => Err(Fault::Broken(innermost(error))),
        status => Ok(text(StatusCode::BAD_GATEWAY, format_args!("the store failed: {status} ({reason})"))),
    }
}

/// Copies fields of a store's answer.
fn copy(heard: Option<&Heard>, names: &[HeaderName], fields: &mut HeaderMap) {
    for name in names {
        if let Some(value) = heard.and_then(|heard| heard.fields.get(name)) {
            fields.insert(name, value.clone());
        }
    }
}

/// The code by which S3, Azure and GCS say in XML what was wrong.
fn code(error: &Error) -> Option<String> {
    let text = innermost(error);
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_code = !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_code.then(|| code.to_owned())
}

fn innermost(error: &Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_and_nothing_else() {
        let error = |text: &str| Error::Generic { store: "S3", source: text.to_owned().into() };
        assert_eq!(code(&error("400: <Error><Code>SlowDown</Code></Error>")), Some("SlowDown".into()));
        for text in ["", "<Code>", "<Code></Code>", "<Code>a\r\nb</Code>", "</Code><Code>a"] {
            assert_eq!(code(&error(text)), None, "{text}");
        }
    }
}
