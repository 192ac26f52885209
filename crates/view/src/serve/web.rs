//! What comes in and what goes out: questions after the `?`, answers with a kind and a revision.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::lab::{Refusal, RefusalKind};

/// The header that says which state of a page this is.
pub(super) const REVISION: HeaderName = HeaderName::from_static("mnemoscope-revision");

/// Nothing may be loaded from elsewhere, nothing run that is not the one script, and nobody may frame a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What stands after the `?`, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it; bytes that are no text become the replacement character.
    pub(super) fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(key), decoded(value))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The value of a key, if it is there and not empty.
    pub(super) fn one(&self, key: &str) -> Option<&str> {
        let filled = |(it, value): &&(String, String)| it == key && !value.trim().is_empty();
        self.0.iter().find(filled).map(|(_, value)| value.trim())
    }

    /// Every value of a key that is not empty.
    pub(super) fn all<'q>(&'q self, key: &'q str) -> impl Iterator<Item = &'q str> {
        let pairs = self.0.iter().filter(move |(it, value)| it == key && !value.trim().is_empty());
        pairs.map(|(_, value)| value.trim())
    }

    /// The same without one key.
    pub(super) fn without(&self, key: &str) -> Self {
        Self(self.0.iter().filter(|(it, _)| it != key).cloned().collect())
    }

    /// The same with another value for a key.
    pub(super) fn with(&self, key: &str, value: impl std::fmt::Display) -> Self {
        let mut pairs = self.without(key).0;
        pairs.push((key.to_owned(), value.to_string()));
        Self(pairs)
    }

    /// As it stands in an address, with its `?` unless it is empty.
    pub(super) fn text(&self) -> String {
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
            .collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// A refusal that names the key and what it should be.
    pub(super) fn number<N: std::str::FromStr>(&self, key: &str) -> Result<Option<N>, Refusal> {
        let Some(text) = self.one(key) else { return Ok(None) };
        let Ok(number) = text.parse() else {
            let shown = crate::figure::label(text, 40);
            let words = format!("`{key}` is {shown:?} and should be a whole number");
            return Err(Refusal::new(RefusalKind::Asked, words));
        };
        Ok(Some(number))
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let pair = more.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.filter(|pair| pair.bytes().all(|it| it.is_ascii_hexdigit()));
        rest = match (first, byte.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                &more[2..]
            }
            (b'+', _) => {
                bytes.push(b' ');
                more
            }
            (other, _) => {
                bytes.push(*other);
                more
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Text as a part of an address.
pub(super) fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            safe += &format!("%{byte:02X}");
        }
    }
    safe
}

/// A number for a state, which differs where the state does.
pub(super) fn revision(of: &[impl AsRef<str>]) -> String {
    let mut hasher = DefaultHasher::new();
    of.iter().for_each(|part| part.as_ref().hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) revision: Option<String>,
    /// Headers of its own.
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Reply {
    pub(super) fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let (status, body) = (StatusCode::OK, body.into());
        Self { status, kind, body, revision: None, headers: Vec::new() }
    }

    pub(super) fn html(page: String) -> Self {
        Self::new("text/html; charset=utf-8", page)
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::new("application/json", value.to_string())
    }

    /// Says that nothing has changed.
    pub(super) fn unchanged(revision: String) -> Self {
        let mut reply = Self::new("text/plain", "");
        reply.status = StatusCode::NO_CONTENT;
        reply.revision = Some(revision);
        reply
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn with_revision(mut self, revision: String) -> Self {
        self.revision = Some(revision);
        self
    }

    /// A refusal for programs.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        Self::json(&json!({"error": refusal.message})).with_status(status_of(refusal.kind))
    }

    /// The answer as it is sent, with what every answer says.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        let always = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ];
        for (name, value) in always {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let own = self.headers.into_iter().chain(self.revision.map(|it| (REVISION, it)));
        for (name, value) in own {
            // What cannot stand in a header is left out rather than sent broken.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// How a refusal is said in HTTP.
pub(super) fn status_of(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::Asked => StatusCode::BAD_REQUEST,
        RefusalKind::NotFound => StatusCode::NOT_FOUND,
        RefusalKind::Record => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_after_the_question_mark_is_decoded_whatever_it_is() {
        let query = Query::parse(
            "where=val.error_rate%3E0+and+arm%3D%22a%26b%22&run=1&run=2&empty=&x=%ff%&%zz",
        );
        assert_eq!(query.one("where"), Some("val.error_rate>0 and arm=\"a&b\""));
        assert_eq!(query.all("run").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.one("empty"), query.one("x")), (None, Some("\u{fffd}%")));
        assert_eq!(Query::parse(&query.text()[1..]), query);
        assert_eq!(query.with("run", 3).all("run").collect::<Vec<_>>(), ["3"]);
        assert_eq!(Query::default().text(), "");
    }

    #[test]
    fn a_number_that_is_none_is_refused_by_name() {
        let refusal = Query::parse("page=two").number::<usize>("page").unwrap_err();
        assert_eq!(refusal.message, "`page` is \"two\" and should be a whole number");
        assert_eq!(Query::parse("page=2").number::<usize>("page"), Ok(Some(2)));
    }
}
