//! An OTLP receiver, by HTTP/1.1 or gRPC, of the published protocol's own types, that answers as it is told to.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver as Incomings, Sender, channel},
    },
    thread::{self, JoinHandle},
};
use tcptrace::export::otlp::settings::Protocol;
use tokio::sync::oneshot;

pub const GRPC_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// How it answers; when nothing more is said, it takes everything.
#[derive(Clone)]
pub enum Reply {
    /// It rejected some, and says why.
    Partly(i64, &'static str),
    /// A status of HTTP, and when to come again.
    Http(u16, Option<&'static str>),
    /// A status of gRPC.
    Grpc(&'static str, &'static str),
    /// Nothing, ever.
    Silence,
}

/// What arrived.
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub message: ExportMetricsServiceRequest,
}

pub struct Receiver {
    pub address: SocketAddr,
    pub got: Incomings<Got>,
    pub connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start(protocol: Protocol, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), protocol, replies)
    }

    pub fn at(address: SocketAddr, protocol: Protocol, replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let (send, got) = channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel::<()>();
        let counter = Arc::clone(&connections);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serving = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        counter.fetch_add(1, Ordering::Relaxed);
                        serve(TokioIo::new(stream), protocol, send.clone(), Arc::clone(&replies));
                    }
                };
                tokio::select! {
                    _ = stopped => {}
                    () = serving => {}
                }
            });
        });
        Self { address, got, connections, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Ends, and closes every connection.
impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

type Stream = TokioIo<tokio::net::TcpStream>;

fn serve(stream: Stream, protocol: Protocol, send: Sender<Got>, replies: Arc<Mutex<VecDeque<Reply>>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (send, replies) = (send.clone(), Arc::clone(&replies));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let message = match protocol {
                Protocol::Http => &body[..],
                Protocol::Grpc => {
                    assert_eq!(body[0], 0, "it is not compressed");
                    assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
                    &body[5..]
                }
            };
            let message = ExportMetricsServiceRequest::decode(message).unwrap();
            // A test that has ended does not read any more.
            let _ = send.send(Got { path: parts.uri.path().to_owned(), headers: parts.headers, message });
            let reply = replies.lock().unwrap().pop_front();
            Ok::<_, Infallible>(answer(protocol, reply).await)
        }
    });
    match protocol {
        Protocol::Http => drop(tokio::spawn(http1::Builder::new().serve_connection(stream, service))),
        Protocol::Grpc => {
            drop(tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service)));
        }
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(protocol: Protocol, reply: Option<Reply>) -> Response<Body> {
    let (mut status, mut code, mut why, mut again, mut partial) = (200, "0", "", None, None);
    match reply {
        None => {}
        Some(Reply::Partly(rejected_data_points, words)) => {
            partial =
                Some(ExportMetricsPartialSuccess { rejected_data_points, error_message: words.to_owned() });
        }
        Some(Reply::Http(number, when)) => (status, again) = (number, when),
        Some(Reply::Grpc(number, words)) => (code, why) = (number, words),
        Some(Reply::Silence) => pending().await,
    }
    let message = ExportMetricsServiceResponse { partial_success: partial }.encode_to_vec();
    let mut response = Response::builder().status(status);
    if let Some(again) = again {
        response = response.header("retry-after", again);
    }
    match protocol {
        Protocol::Http => response
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::from(if status == 200 { message } else { Vec::new() }).boxed()),
        Protocol::Grpc if status != 200 => response.body(Full::default().boxed()),
        Protocol::Grpc => {
            let frame = [&[0], (message.len() as u32).to_be_bytes().as_slice(), &message].concat();
            let frame = if code == "0" { frame } else { Vec::new() };
            let trailers = HeaderMap::from_iter([
                ("grpc-status".parse().unwrap(), HeaderValue::from_static(code)),
                ("grpc-message".parse().unwrap(), HeaderValue::from_static(why)),
            ]);
            let body = Full::from(frame).with_trailers(async move { Some(Ok(trailers)) });
            response.header(CONTENT_TYPE, "application/grpc").body(body.boxed())
        }
    }
    .unwrap()
}
