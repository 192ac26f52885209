//! Who may come in: the name a browser calls this server by, the token, and where a request comes from.
//!
//! A page of somebody else's may send its reader's browser here. It cannot read what we answer, for there are no
//! headers that would allow it; but a name of its own that suddenly leads to this machine (DNS rebinding) would make
//! it the same site. So a request must call us by an address or a name that can only mean us.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode, header};

use super::web::{Query, Reply};

/// The rules at the door.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// Where we listen.
    pub(super) listens: SocketAddr,
    /// The name in the address, as it was typed.
    pub(super) name: String,
    /// What whoever comes in has to know.
    pub(super) token: Option<String>,
}

/// What is said to somebody without the token.
const WITHOUT_TOKEN: &str = "this dashboard asks for its token: open the address that `mnemoscope serve` printed, or send \
                             `Authorization: Bearer TOKEN`\n";

impl Gate {
    /// Lets a request pass, or says what is sent instead.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        path: &str,
        query: &Query,
    ) -> Result<(), Box<Reply>> {
        let refuse = |status: StatusCode, words: &str| {
            Err(Box::new(Reply::new("text/plain; charset=utf-8", words).with_status(status)))
        };
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next().map(|host| host.to_str()), hosts.next()) {
            (Some(Ok(host)), None) => host,
            _ => return refuse(StatusCode::BAD_REQUEST, "a request names its host once\n"),
        };
        if !self.knows(host) {
            let words = "this server is not known by that name; open the address that `mnemoscope serve` printed\n";
            return refuse(StatusCode::FORBIDDEN, words);
        }
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let elsewhere = matches!(said("sec-fetch-site"), Some("cross-site" | "same-site"));
        if elsewhere && said("sec-fetch-mode") != Some("navigate") {
            return refuse(StatusCode::FORBIDDEN, "pages of others may link here and not ask\n");
        }
        let Some(token) = &self.token else { return Ok(()) };
        if query.one("token").is_some_and(|said| same(said, token)) {
            return Err(Box::new(self.welcome(path, query, token)));
        }
        let bearer = said("authorization").and_then(|it| it.strip_prefix("Bearer "));
        if bearer.is_some_and(|said| same(said.trim(), token)) || self.has_cookie(headers, token) {
            return Ok(());
        }
        refuse(StatusCode::UNAUTHORIZED, WITHOUT_TOKEN)
    }

    /// Whether a host is a way to call this server that nobody else can make their own.
    fn knows(&self, host: &str) -> bool {
        let name = without_port(host);
        if name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(&self.name) {
            return true;
        }
        // A number is no name: it cannot be made to lead elsewhere.
        let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>()
        else {
            return false;
        };
        address.is_loopback() || !self.listens.ip().is_loopback()
    }

    /// Ports of one machine share their cookies, so each has a name of its own.
    fn cookie(&self) -> String {
        format!("mnemoscope-{}", self.listens.port())
    }

    fn has_cookie(&self, headers: &HeaderMap, token: &str) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let mut pairs =
            cookies.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
        pairs.any(|(name, said)| name == self.cookie() && same(said, token))
    }

    /// Keeps the token in a cookie and takes it out of the address.
    fn welcome(&self, path: &str, query: &Query, token: &str) -> Reply {
        let mut reply = Reply::new("text/plain", "").with_status(StatusCode::SEE_OTHER);
        let cookie = format!("{}={token}; Path=/; HttpOnly; SameSite=Strict", self.cookie());
        // A path that begins with two strokes would name a host.
        let path = format!("/{}", path.trim_start_matches('/'));
        reply.headers = vec![
            (header::SET_COOKIE, cookie),
            (header::LOCATION, format!("{path}{}", query.without("token").text())),
        ];
        reply
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    if let Some(end) = host.find(']') {
        return &host[..=end];
    }
    host.split(':').next().unwrap_or_default()
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
fn same(said: &str, token: &str) -> bool {
    let differ = std::iter::zip(said.bytes(), token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    said.len() == token.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(listens: &str, token: Option<&str>) -> Gate {
        let listens: SocketAddr = listens.parse().unwrap();
        Gate { listens, name: listens.ip().to_string(), token: token.map(str::to_owned) }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn status(gate: &Gate, pairs: &[(&'static str, &str)], query: &str) -> u16 {
        let passed = gate.check(&headers(pairs), "/run/1", &Query::parse(query));
        passed.map_or_else(|reply| reply.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_names_that_can_mean_nobody_else_are_known() {
        let local = gate("127.0.0.1:8321", None);
        for host in ["127.0.0.1:8321", "localhost:9000", "LOCALHOST", "[::1]:8321", "127.0.0.9"] {
            assert_eq!(status(&local, &[("host", host)], ""), 200, "{host}");
        }
        for host in [
            "evil.example:8321",
            "localhost.evil.example",
            "10.0.0.7:8321",
            "127.0.0.1.nip.io",
            "",
            "[evil]",
        ] {
            assert_eq!(status(&local, &[("host", host)], ""), 403, "{host}");
        }
        assert_eq!(status(&local, &[], ""), 400);
        let open = Gate { name: "box.lan".to_owned(), ..gate("0.0.0.0:8321", Some("t")) };
        let knows = |host| status(&open, &[("host", host), ("authorization", "Bearer t")], "");
        let said = [knows("10.0.0.7:8321"), knows("box.lan:8321"), knows("evil.example")];
        assert_eq!(said, [200, 200, 403]);
    }

    #[test]
    fn pages_of_others_may_link_and_not_ask() {
        let local = gate("127.0.0.1:8321", None);
        let from = |mode| {
            let pairs =
                [("host", "127.0.0.1"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode)];
            status(&local, &pairs, "")
        };
        assert_eq!((from("navigate"), from("no-cors"), from("cors")), (200, 403, 403));
    }

    #[test]
    fn a_token_is_taken_from_the_address_once_and_then_from_a_cookie() {
        let gate = gate("127.0.0.1:8321", Some("secret"));
        let host = ("host", "127.0.0.1");
        for wrong in ["", "token=", "token=secre", "token=secret2"] {
            assert_eq!(status(&gate, &[host], wrong), 401, "{wrong}");
        }
        let welcome =
            gate.check(&headers(&[host]), "//evil.example/x", &Query::parse("a=1&token=secret"));
        let welcome = welcome.unwrap_err();
        assert_eq!(welcome.status, StatusCode::SEE_OTHER);
        let [(_, cookie), (_, to)] = &welcome.headers[..] else { panic!("two headers") };
        assert_eq!(to, "/evil.example/x?a=1");
        assert_eq!(cookie, "mnemoscope-8321=secret; Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(status(&gate, &[host, ("cookie", "other=1; mnemoscope-8321=secret")], ""), 200);
        assert_eq!(status(&gate, &[host, ("cookie", "mnemoscope-8321=secret2")], ""), 401);
        assert_eq!(status(&gate, &[host, ("authorization", "Bearer secret")], ""), 200);
    }
}
