//! `mnemoscope serve`: the store in a browser, on this machine, until Ctrl-C.

mod laboratory;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use clap::Args;
use mnemoscope_view::serve::{Dashboard, Settings};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;
use laboratory::Laboratory;

/// Characters of a token that is made here: each is one of 16, so 128 bits.
const TOKEN_BYTES: usize = 16;
/// Characters of a token that somebody chose, at least.
const SHORTEST_TOKEN: usize = 8;

/// Flags of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Where to listen, as HOST:PORT or PORT; port 0 takes one that is free. An address that other
    /// machines reach asks for a token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8321")]
    address: String,
    /// What a browser must know: letters, digits, - and _ [default: none on this machine, else one is
    /// made and printed]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// A dashboard that can be opened.
struct Listening {
    url: String,
    address: SocketAddr,
    store: String,
    token: Option<String>,
}

impl Spoken for Listening {
    fn page(&self) -> String {
        format!("{}\n  shows {}, read-only; Ctrl-C ends it\n", self.url, self.store)
    }

    fn json(&self) -> Value {
        json!({"url": self.url, "address": self.address.to_string(), "store": self.store, "token": self.token})
    }

    fn brief(&self) -> String {
        format!("{}\n", self.url)
    }
}

/// Serves until somebody asks to stop.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let (host, address) = address(&flags.address)?;
    let token = match &flags.token {
        Some(token) => Some(checked(token)?),
        None if address.ip().is_loopback() => None,
        None => Some(fresh_token()?),
    };
    let (store, name) = (session.store()?, session.store_name());
    let settings =
        Settings { store: store.clone(), name: name.clone(), host, token: token.clone() };
    let dashboard = Dashboard::bind(address, settings).map_err(|why| {
        Failure::machine(format!("cannot listen on {address}"))
            .because(&why)
            .help("`--address 127.0.0.1:0` takes a port that is free")
    })?;
    session.interrupt.listen()?;
    let listening =
        Listening { url: dashboard.url(), address: dashboard.address(), store: name, token };
    session.say(&listening, Exit::Done)?;
    let laboratory = Laboratory::new(store, session.n_threads, session.device);
    let interrupt = session.interrupt.clone();
    dashboard
        .serve(Box::new(laboratory), move || interrupt.asked())
        .map_err(|why| Failure::machine("the dashboard cannot go on").because(&why))?;
    Ok(Exit::Done)
}

/// The host as it was typed, and the address it is.
fn address(text: &str) -> Result<(String, SocketAddr), Failure> {
    let wrong = || {
        Failure::usage(format!(
            "{text:?} is no address to listen on; write HOST:PORT such as 127.0.0.1:8321, or a port from 0 to 65535"
        ))
    };
    if let Ok(port) = text.parse::<u16>() {
        return Ok(("127.0.0.1".to_owned(), SocketAddr::from(([127, 0, 0, 1], port))));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((text.to_owned(), SocketAddr::from((ip, 8321))));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let found = text.to_socket_addrs().map_err(|why| wrong().because(&why))?.next();
    Ok((host.to_owned(), found.ok_or_else(wrong)?))
}

/// A token that can stand in an address and in a cookie.
fn checked(token: &str) -> Result<String, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token.len() < SHORTEST_TOKEN || !token.bytes().all(plain) {
        return Err(Failure::usage(format!(
            "--token takes letters, digits, - and _, at least {SHORTEST_TOKEN} of them"
        )));
    }
    Ok(token.to_owned())
}

/// A token that nobody can guess.
fn fresh_token() -> Result<String, Failure> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|why| {
        Failure::machine(format!("the system gives no random bytes for a token: {why}"))
            .help("choose one with `--token`")
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let cases = [
            ("0", "127.0.0.1", "127.0.0.1:0"),
            ("8000", "127.0.0.1", "127.0.0.1:8000"),
            ("0.0.0.0:80", "0.0.0.0", "0.0.0.0:80"),
            ("[::1]:9", "[::1]", "[::1]:9"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1:8321"),
        ];
        for (text, host, expected) in cases {
            let (named, found) = address(text).unwrap();
            assert_eq!((named.as_str(), found.to_string().as_str()), (host, expected));
        }
        for wrong in ["", "here", ":80", "127.0.0.1:", "127.0.0.1:port", "127.0.0.1:70000"] {
            let said = address(wrong).unwrap_err();
            assert_eq!(said.exit, Exit::Usage);
            assert!(
                said.message.contains("is no address to listen on; write HOST:PORT"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn tokens_are_plain_and_no_two_are_alike() {
        assert!(checked("a-Token_7").is_ok());
        for wrong in ["short", "with space", "semi;colon", "umläut-token"] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
        let [one, other] = [fresh_token().unwrap(), fresh_token().unwrap()];
        assert!(one.len() == 32 && one != other);
    }
}
