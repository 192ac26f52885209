//! The dashboard: read-only pages over a store, live while runs train, and a viewer of failing sequences.
//!
//! ```text
//! /                                  runs: filtered, sorted, grouped, page by page
//! /run/ID                            one run
//! /run/ID/glitch/N                   one failing sequence, token by token
//! /compare?run=ID&run=ID             runs side by side
//! /studies, /study?name=NAME         how many of how many; the report of a study
//! /live/...                          the part of a page that changes, with its revision
//! /api/...                           the same as data; docs/guide/serve.md describes it
//! ```
//!
//! Pages are set in Rust by the code that sets reports; one stylesheet and one script, both compiled in, do the rest.
//! Nothing is ever written, nothing loaded from elsewhere. The models are asked through a [`Lab`] that whoever starts
//! the dashboard hands in: this room does not know them.

mod gate;
mod lab;
mod page;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode, header};
use mnemoscope_store::{RunReader, Store};

use crate::figure;
use gate::Gate;
pub use lab::{Asked, Judged, Lab, Pattern, Question, Refusal, RefusalKind, Seen};
use lab::{Desk, Waiting};
use web::{Query, Reply};

/// The stylesheet, without that of figures and their font.
const STYLE: &str = include_str!("style.css");
/// The script, without that of figures.
const SCRIPT: &str = include_str!("app.js");
/// How often it is asked whether to stop.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// How long answers that are under way may take when it stops.
const PATIENCE: Duration = Duration::from_secs(2);
/// Answers that are made side by side. More than wait for the laboratory, so that pages are never behind it.
const N_BLOCKING: usize = 16;

/// What is shown, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store; it is only read.
    pub store: Store,
    /// What the store is called on pages.
    pub name: String,
    /// The host of the address as it was typed: a name by which this server may be called.
    pub host: String,
    /// What whoever comes in has to know; letters, digits, `-` and `_`.
    pub token: Option<String>,
}

/// A dashboard that listens and does not answer yet.
#[derive(Debug)]
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings,
}

/// What every page needs.
struct Board {
    store: Store,
    name: String,
    desk: Desk,
    gate: Gate,
    /// Ids of the plans of the study that a run belongs to, by the run whose spec they were resolved from.
    plans: Mutex<BTreeMap<String, Option<Arc<BTreeSet<String>>>>>,
}

impl Dashboard {
    /// Begins to listen.
    ///
    /// # Arguments
    ///
    /// - `address`: port 0 takes one that is free.
    ///
    /// # Errors
    ///
    /// What the system says, if it does not let us; `PermissionDenied`, if others could reach the address and no
    /// token is asked for.
    pub fn bind(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        if !address.ip().is_loopback() && settings.token.is_none() {
            let words = "an address that other machines reach needs a token";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, settings })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to open in a browser, the token with it.
    #[must_use]
    pub fn url(&self) -> String {
        let port = self.address.port();
        let host = match self.address {
            any if any.ip().is_unspecified() => "127.0.0.1".to_owned(),
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let token = self.settings.token.as_ref().map(|token| format!("?token={token}"));
        format!("http://{host}:{port}/{}", token.unwrap_or_default())
    }

    /// Answers until `stop` says so.
    ///
    /// # Arguments
    ///
    /// - `lab`: who answers for the models, on a thread of its own.
    /// - `stop`: asked ten times a second.
    ///
    /// # Errors
    ///
    /// What the system says, if no thread can be started or the socket fails.
    pub fn serve(
        self,
        lab: Box<dyn Lab>,
        stop: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<()> {
        let Settings { store, name, host, token } = self.settings;
        let gate = Gate { listens: self.address, name: host, token };
        let desk = Desk::open(lab)?;
        let board = Arc::new(Board { store, name, desk, gate, plans: Mutex::default() });
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(N_BLOCKING).build()?;
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let app = Router::new().fallback(answer).with_state(board);
            let (tell, told) = tokio::sync::watch::channel(false);
            let wait = async move {
                while !stop() {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
                // Both ends live as long as this function.
                tell.send(true).ok();
            };
            let mut asked_to_stop = told.clone();
            let server = axum::serve(listener, app).with_graceful_shutdown(wait);
            tokio::select! {
                ended = server.into_future() => ended,
                () = async {
                    asked_to_stop.wait_for(|stopped| *stopped).await.ok();
                    tokio::time::sleep(PATIENCE).await;
                } => Ok(()),
            }
        });
        // What is still computed is not waited for.
        runtime.shutdown_background();
        served
    }
}

/// Answers one request.
async fn answer(State(board): State<Arc<Board>>, request: Request) -> Response<Body> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let path = request.uri().path().to_owned();
    if let Err(instead) = board.gate.check(request.headers(), &path, &query) {
        return instead.into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut reply =
            Reply::new("text/plain; charset=utf-8", "the dashboard only shows: ask with GET\n");
        reply.headers.push((header::ALLOW, "GET, HEAD".to_owned()));
        return reply.with_status(StatusCode::METHOD_NOT_ALLOWED).into_response();
    }
    let (waiting, _here) = Waiting::begin();
    let asked = tokio::task::spawn_blocking(move || board.reply(&path, &query, &waiting));
    let reply = asked.await.unwrap_or_else(|_| {
        let words = "this page broke down; standard error of `mnemoscope serve` says more";
        Reply::refused(&Refusal::new(RefusalKind::Failed, words))
    });
    reply.into_response()
}

impl Board {
    fn reply(&self, path: &str, query: &Query, waiting: &Waiting) -> Reply {
        let for_programs = path.starts_with("/api/") || path.starts_with("/live/");
        match self.route(path, query, waiting) {
            Ok(reply) => reply,
            Err(refusal) if for_programs => Reply::refused(&refusal),
            Err(refusal) => page::refused(&refusal, &self.name),
        }
    }

    /// What a path leads to. A part of it that names a run is checked where it is used.
    fn route(&self, path: &str, query: &Query, waiting: &Waiting) -> Result<Reply, Refusal> {
        use page::{compare, glitch, run, runs, studies};
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            [""] => Ok(runs::page(self, query)),
            ["run", id] => run::page(self, id),
            ["run", id, "glitch", n] => glitch::page(self, id, n),
            ["compare"] => compare::page(self, query),
            ["studies"] => studies::page(self, waiting),
            ["study"] => studies::study(self, query, waiting),
            ["live", "runs"] => Ok(runs::live(self, query)?.reply(query)),
            ["live", "run", id] => run::live(self, id, query),
            ["live", "compare"] => compare::live(self, query),
            ["live", "studies"] => Ok(studies::live(self, waiting)?.reply(query)),
            ["live", "study"] => studies::live_study(self, query, waiting),
            ["api", "runs"] => runs::data(self, query),
            ["api", "fields"] => runs::fields(self),
            ["api", "run", id] => run::data(self, id),
            ["api", "run", id, "figures"] => run::figures_data(self, id),
            ["api", "run", id, "glitch", n] => glitch::data(self, id, n, query, waiting),
            ["api", "run", id, "glitch", n, "attention"] => {
                glitch::attention(self, id, n, query, waiting)
            }
            ["api", "studies"] => studies::data(self, waiting),
            ["style.css"] => {
                let style = format!("{STYLE}\n{}\n{}\n", figure::STYLE, figure::font_face());
                Ok(Reply::new("text/css; charset=utf-8", style))
            }
            ["app.js"] => {
                let script = format!("{}\n{SCRIPT}", figure::SCRIPT);
                Ok(Reply::new("text/javascript; charset=utf-8", script))
            }
            _ => {
                let shown = figure::label(path, 60);
                Err(Refusal::new(RefusalKind::NotFound, format!("there is no page {shown}")))
            }
        }
    }

    /// The folder of a run, which lies in the store and nowhere else.
    fn folder(&self, run: &str) -> Result<PathBuf, Refusal> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if run.is_empty() || run.len() > 128 || !run.bytes().all(plain) {
            let shown = figure::label(run, 40);
            return Err(Refusal::new(
                RefusalKind::NotFound,
                format!("{shown:?} cannot be the id of a run"),
            ));
        }
        let folder = self.store.root().join(run);
        self.refuse_links(&folder)?;
        Ok(folder)
    }

    /// A run by its whole id.
    fn run(&self, run: &str) -> Result<RunReader, Refusal> {
        let folder = self.folder(run)?;
        if !folder.is_dir() {
            let words = format!("there is no run `{run}`; the first page lists all there are");
            return Err(Refusal::new(RefusalKind::NotFound, words));
        }
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            self.refuse_links(&entry.path())?;
        }
        Ok(self.store.find(run)?)
    }

    /// Refuses a link: what it leads to may lie anywhere.
    #[expect(clippy::unused_self, reason = "the store decides what is in it")]
    fn refuse_links(&self, path: &Path) -> Result<(), Refusal> {
        let is_link = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_symlink());
        if !is_link {
            return Ok(());
        }
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let words = format!(
            "`{name}` is a link, and the dashboard follows none: it shows what lies in the store"
        );
        Err(Refusal::new(RefusalKind::NotFound, words))
    }

    /// Whether the folder of a run is a link.
    fn is_link(&self, run: &str) -> bool {
        self.refuse_links(&self.store.root().join(run)).is_err()
    }

    fn is_sealed(&self, run: &str) -> bool {
        self.folder(run).is_ok() && self.store.is_sealed(run)
    }

    /// The plans of the study that a run belongs to, by the spec that it keeps.
    fn plans_of(&self, run: &str, waiting: &Waiting) -> Option<Arc<BTreeSet<String>>> {
        let known = |board: &Self| {
            board.plans.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
        };
        if let Some(plans) = known(self) {
            return plans;
        }
        let spec = self.run(run).ok()?.file("spec.toml").ok();
        let spec = spec.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let judged = spec.map(|spec| self.desk.ask(waiting, move |lab| lab.judge(&spec, &[])));
        let plans = match judged {
            Some(Ok(judged)) => Some(Arc::new(judged.plans.into_iter().collect())),
            // Not now; perhaps the next time.
            Some(Err(refusal)) if refusal.kind == RefusalKind::Busy => return None,
            Some(Err(_)) | None => None,
        };
        self.plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(run.to_owned(), plans.clone());
        plans
    }
}

#[cfg(test)]
mod tests;
