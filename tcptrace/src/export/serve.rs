//! The HTTP server: /metrics, /healthz, /readyz. It runs on a thread of its own and reads the last snapshot, so that no
//! client, however slow, holds up the trace, nor another client.

use super::{model::Snapshot, negotiate::Format};
use crate::sandbox::{Sandbox, Thread};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    sync::{oneshot, watch},
    task::AbortHandle,
};

/// Connections at once. The oldest makes room for one more: who reads nothing keeps nobody out.
const MOST_CONNECTIONS: usize = 64;
/// From the beginning of a request, or the end of the one before it, to the end of its header. Longer than usual pauses
/// between two scrapes, which keep the connection.
const HEADER_WITHIN: Duration = Duration::from_secs(150);
/// A trace that has not published anything for so long does not work.
const SILENT_AFTER: Duration = Duration::from_secs(60);
/// After an accept() that failed, e.g. for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// How far the program is.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Not yet that far, and what it does.
    Starting(&'static str),
    /// Everything is attached, and publishes here.
    Publishing(watch::Receiver<Arc<Snapshot>>),
}

/// A running server. It ends with this.
pub struct Server {
    stage: watch::Sender<Stage>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Listens. Whatever is asked, in a sandbox the thread that answers can neither open a file nor reach a host.
    ///
    /// # Errors
    /// Why this address cannot be listened on.
    pub fn start(address: SocketAddr, sandbox: Sandbox) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stage, stages) = watch::channel(Stage::Starting("the kernel programs are being attached"));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("http".into()).spawn(move || {
            sandbox.enter(&Thread::Server);
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    error = accept(listener, stages) => log::error!("nothing is served any more: {error}"),
                }
            });
        })?;
        Ok(Self { stage, stop: Some(stop), thread: Some(thread), address })
    }

    /// The program has come further.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the HTTP server panicked");
        }
    }
}

/// Accepts until the listener cannot be used.
async fn accept(listener: TcpListener, stages: watch::Receiver<Stage>) -> io::Error {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    let pages = Arc::new(Pages { stages });
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= MOST_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let pages = Arc::clone(&pages);
        let answer = service_fn(move |request| {
            let pages = Arc::clone(&pages);
            async move { Ok::<_, Infallible>(pages.answer(&request)) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_WITHIN);
        let connection = http.serve_connection(TokioIo::new(stream), answer);
        let served = tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a client: {error}");
            }
        });
        open.push_back(served.abort_handle());
    }
}

/// What there is to be read.
struct Pages {
    stages: watch::Receiver<Stage>,
}

impl Pages {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let accept: Vec<_> =
            request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut response = match (request.uri().path(), request.method()) {
            // `GET http://host/`, `CONNECT host:port`: nobody is asked on anybody's behalf.
            _ if request.uri().authority().is_some() => {
                plain(StatusCode::BAD_REQUEST, "this is no proxy: ask for a path, e.g. /metrics\n".into())
            }
            ("/" | "/metrics" | "/healthz" | "/readyz", method)
                if ![Method::GET, Method::HEAD].contains(method) =>
            {
                let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                refused
            }
            ("/metrics", _) => self.metrics(Format::wanted(&accept.join(","))),
            ("/healthz", _) => told(self.alive().map(|()| "alive\n".into())),
            ("/readyz", _) => told(self.ready().map(|_| "ready\n".into())),
            ("/", _) => plain(StatusCode::OK, ABOUT.into()),
            _ => plain(
                StatusCode::NOT_FOUND,
                "no such page; there are /metrics, /healthz and /readyz\n".into(),
            ),
        };
        if request.method() == Method::HEAD {
            *response.body_mut() = Full::default();
        }
        response
    }

    fn metrics(&self, format: Format) -> Response<Full<Bytes>> {
        let snapshot = match self.ready() {
            Ok(snapshot) => snapshot,
            Err(why) => return told(Err(why)),
        };
        match format.encode(&snapshot) {
            Ok(body) => page(StatusCode::OK, HeaderValue::from_static(format.content_type()), body.into()),
            Err(error) => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, format!("it could not be written: {error}\n"))
            }
        }
    }

    /// The last snapshot; or why there is none.
    fn ready(&self) -> Result<Arc<Snapshot>, String> {
        match &*self.stages.borrow() {
            Stage::Starting(what) => Err(format!("not ready: {what}\n")),
            Stage::Publishing(snapshots) => {
                let snapshot = Arc::clone(&snapshots.borrow());
                let first = snapshot.at_unix_ns == 0;
                if first { Err("not ready: the sockets are being looked at\n".into()) } else { Ok(snapshot) }
            }
        }
    }

    /// Whether the trace goes on, or has not begun.
    fn alive(&self) -> Result<(), String> {
        let Stage::Publishing(snapshots) = &*self.stages.borrow() else { return Ok(()) };
        let snapshot = Arc::clone(&snapshots.borrow());
        match snapshot.made.map(|made: Instant| made.elapsed()) {
            Some(silent) if silent > SILENT_AFTER => {
                Err(format!("not alive: the trace has not counted anything for {} s\n", silent.as_secs()))
            }
            _ => Ok(()),
        }
    }
}

const ABOUT: &str = "tcptrace export\n\n\
    /metrics  for Prometheus: OpenMetrics, text or protobuf with native histograms, as the client asks\n\
    /healthz  200 while the trace works\n\
    /readyz   200 once everything is attached and the sockets have been looked at\n";

fn told(answer: Result<String, String>) -> Response<Full<Bytes>> {
    match answer {
        Ok(text) => plain(StatusCode::OK, text),
        Err(text) => plain(StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    page(status, PLAIN, text.into())
}

fn page(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
