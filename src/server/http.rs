//! `/metrics` and `/health` over HTTP, for Prometheus and whoever restarts what is not healthy.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::clients::Shared;
use crate::base::{NodeId, TableId};
use crate::consensus::{Command, Outcome, Readiness, Status};
use crate::host::{CallOptions, DiskStatus, Local, News, Quiet};
use crate::merged;
use crate::primary::{Answer, Call, Info};

/// Connections at once; a scraper needs one.
const CONNECTIONS_MAX: usize = 64;

/// How long a request may take to arrive, and a connection to do nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node whose disk has done nothing for so long is not healthy.
const STALLED: Duration = Duration::from_secs(5);

/// Accepts connections for as long as it is polled.
pub(super) async fn serve(listener: std::net::TcpListener, local: Local, shared: Rc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!("metrics cannot be served: {error}"),
    };
    let quiet = Rc::new(Quiet::default());
    // Oldest first. Of too many the oldest must go: who has a question asks it at once.
    let mut guests: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                quiet.say(|more| warn!("metrics: nobody can be accepted: {error}{more}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        guests.retain(|guest| !guest.is_finished());
        if guests.len() >= CONNECTIONS_MAX
            && let Some(oldest) = guests.pop_front()
        {
            oldest.abort();
            quiet.say(|more| warn!("metrics: too many connections: the oldest is dropped{more}"));
        }
        let (local, shared, quiet) = (local.clone(), shared.clone(), quiet.clone());
        guests.push_back(tokio::task::spawn_local(async move {
            let answer = service_fn(|request| {
                let (local, shared) = (local.clone(), shared.clone());
                async move { Ok::<_, Infallible>(answer(&request, &local, &shared).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 << 10)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            match tokio::time::timeout(PATIENCE * 2, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_parse() => {
                    quiet.say(|more| warn!("metrics: {from} speaks no HTTP: {error}{more}"));
                }
                Ok(Err(error)) => debug!("metrics: {from} was lost: {error}"),
                Err(_) => quiet.say(|more| warn!("metrics: {from} took too long{more}")),
            }
        }));
    }
}

async fn answer(
    request: &Request<Incoming>,
    local: &Local,
    shared: &Shared,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "there is only GET\n");
    }
    match request.uri().path() {
        "/metrics" => match status(local).await {
            Some(status) => {
                if let Some(bytes) = stored(shared).await {
                    shared.metrics.storage.set(bytes);
                }
                let (replicas, copies) = (replicas(local).await, copies(local, status.node).await);
                text(
                    StatusCode::OK,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    shared.metrics.render(&status, local, &replicas, &copies),
                )
            }
            None => stuck(),
        },
        "/health" => match status(local).await {
            Some(status) => health(&status, &local.disk()),
            None => stuck(),
        },
        _ => text(StatusCode::NOT_FOUND, "text/plain", "there are /metrics and /health\n"),
    }
}

/// Bytes in the state directory, unless whoever is asked does not answer: a disk that is stuck must
/// not hold up the node.
async fn stored(shared: &Shared) -> Option<i64> {
    let path = shared.directory()?;
    let count = tokio::task::spawn_blocking(move || {
        let files = std::fs::read_dir(path).ok()?.flatten();
        Some(files.filter_map(|file| file.metadata().ok()).map(|it| it.len()).sum::<u64>())
    });
    let counted = tokio::time::timeout(Duration::from_secs(1), count).await.ok()?.ok()??;
    i64::try_from(counted).ok()
}

fn health(status: &Status, disk: &DiskStatus) -> Response<Full<Bytes>> {
    let ready = status.readiness == Readiness::Ready;
    let well = ready && status.has_quorum && disk.stalled < STALLED;
    let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "node": status.node.0,
        "ready": ready,
        "readiness": status.readiness.to_string(),
        "quorum": status.has_quorum,
        "reachable": status.reachable.iter().map(|node| node.0).collect::<Vec<_>>(),
        "cluster_size": status.cluster_size,
        "disk_waiting_bytes": disk.waiting_bytes,
        "disk_stalled_seconds": disk.stalled.as_secs_f64(),
    });
    text(code, "application/json", format!("{body}\n"))
}

/// What the node says of itself; nothing if it says nothing in time.
async fn status(local: &Local) -> Option<Status> {
    match ask(local, Command::Status).await {
        Some(Outcome::Status(status)) => Some(status),
        Some(_) | None => None,
    }
}

/// What it says of its replicas of primary tables, by their tables; nothing while it takes no part.
async fn replicas(local: &Local) -> Vec<(String, Info)> {
    let mut replicas = Vec::new();
    for (table, config) in (0..).map(TableId).zip(local.tables().iter()) {
        if config.primary().is_none() {
            continue;
        }
        let said = ask(local, Command::Primary { table, call: Call::Info }).await;
        if let Some(Outcome::Primary(Answer::Info(info))) = said {
            replicas.push((config.name.clone(), info));
        }
    }
    replicas
}

/// What it says of its copies of merged tables, by their tables.
async fn copies(local: &Local, node: NodeId) -> Vec<(String, merged::Info)> {
    let mut copies = Vec::new();
    for (table, config) in (0..).map(TableId).zip(local.tables().iter()) {
        // Of one that it does not keep, another node would tell.
        if !config.schema().is_some_and(|schema| schema.replicas.contains(node)) {
            continue;
        }
        let said = ask(local, Command::Merged { table, command: merged::Command::Info }).await;
        if let Some(Outcome::Merged(merged::Answer::Info(info))) = said
            && info.node == node
        {
            copies.push((config.name.clone(), info));
        }
    }
    copies
}

async fn ask(local: &Local, command: Command) -> Option<Outcome> {
    let client = local.client();
    client.ask(command, CallOptions::default());
    match tokio::time::timeout(Duration::from_secs(2), client.news()).await {
        Ok(News::Answer(_, outcome)) => Some(outcome),
        Ok(_) | Err(_) => None,
    }
}

fn stuck() -> Response<Full<Bytes>> {
    text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the node does not answer\n")
}

fn text(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
