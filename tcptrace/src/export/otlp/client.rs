//! One request to the receiver, on a connection that is kept for the next.

use super::{
    answer::{self, Answer},
    settings::{Protocol, Settings},
};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use std::{error::Error, io};
use tokio::{net::TcpStream, time::timeout};

const GRPC_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const USER_AGENT: &str = concat!("tcptrace/", env!("CARGO_PKG_VERSION"));
/// Answers are a few bytes; a longer one is not for us.
const MOST_ANSWER_BYTES: usize = 64 << 10;

/// The way to a receiver.
pub struct Client {
    settings: Settings,
    connection: Option<Connection>,
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Why there is no answer.
enum Failure {
    /// It cannot be sent, or the answer cannot be read.
    Useless(String),
    /// The connection ended before the answer. The receiver may have closed it while it was idle.
    Unanswered(String),
}

impl Client {
    /// Connects when there is something to send.
    pub fn new(settings: Settings) -> Self {
        Self { settings, connection: None }
    }

    /// Sends an encoded request; within the time that the receiver has for it.
    pub async fn push(&mut self, message: Bytes) -> Answer {
        let limit = self.settings.timeout;
        match timeout(limit, self.exchange(message)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.connection = None;
                Answer::failed(format!("no answer within {limit:?}"))
            }
        }
    }

    async fn exchange(&mut self, message: Bytes) -> Answer {
        let kept = self.connection.is_some();
        let mut result = self.once(message.clone()).await;
        // What is cumulative may arrive twice.
        if kept && matches!(result, Err(Failure::Unanswered(_))) {
            result = self.once(message).await;
        }
        match result {
            Ok(answer) => answer,
            Err(Failure::Useless(why)) => Answer::failed(why),
            // Whoever is asked in the wrong language hangs up, or answers nonsense.
            Err(Failure::Unanswered(why)) => {
                let other = match self.settings.protocol {
                    Protocol::Grpc => "HTTP",
                    Protocol::Http => "gRPC",
                };
                Answer::failed(format!("{why}; does it speak {other} at this port? (--otlp-protocol)"))
            }
        }
    }

    async fn once(&mut self, message: Bytes) -> Result<Answer, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let protocol = self.settings.protocol;
        let request = self.request(message)?;
        let response = match &mut connection {
            Connection::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Connection::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        let response = response.map_err(|error| failure(&error))?;
        let answer = read(response, protocol).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let url = &self.settings.url;
        let cannot = |error: io::Error| Failure::Useless(format!("cannot connect: {error}"));
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(cannot)?;
        // A request is one write: nothing is to be waited for.
        stream.set_nodelay(true).map_err(cannot)?;
        let stream = TokioIo::new(stream);
        match self.settings.protocol {
            Protocol::Http => {
                let (sender, driver) = http1::handshake(stream).await.map_err(|error| failure(&error))?;
                tokio::spawn(async move { ended(driver.await) });
                Ok(Connection::Http1(sender))
            }
            Protocol::Grpc => {
                let (sender, driver) =
                    http2::handshake(TokioExecutor::new(), stream).await.map_err(|error| failure(&error))?;
                tokio::spawn(async move { ended(driver.await) });
                Ok(Connection::Http2(sender))
            }
        }
    }

    fn request(&self, message: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let Settings { url, protocol, timeout, headers, .. } = &self.settings;
        let authority = url.authority();
        let mut request = Request::post(match protocol {
            // HTTP/1.1 names the host in a header, HTTP/2 in the URL.
            Protocol::Http => url.path.clone(),
            Protocol::Grpc => format!("http://{authority}{GRPC_PATH}"),
        })
        .header(header::USER_AGENT, USER_AGENT);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = match protocol {
            Protocol::Http => request
                .header(header::HOST, authority)
                .header(header::CONTENT_TYPE, "application/x-protobuf")
                .body(Full::new(message)),
            Protocol::Grpc => request
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers")
                .header("grpc-timeout", grpc_timeout(timeout.as_millis()))
                .body(Full::new(framed(&message))),
        };
        request.map_err(|error| Failure::Useless(error.to_string()))
    }
}

/// Eight digits are all that gRPC reads.
fn grpc_timeout(milliseconds: u128) -> String {
    match milliseconds {
        0..100_000_000 => format!("{milliseconds}m"),
        _ => format!("{}S", (milliseconds / 1000).min(99_999_999)),
    }
}

/// Not compressed, so long, this.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    // Four gigabytes are more than there are series.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

async fn read(response: Response<Incoming>, protocol: Protocol) -> Result<Answer, Failure> {
    let (parts, body) = response.into_parts();
    let broken = |error| Failure::Useless(format!("the answer broke off: {error}"));
    let collected = Limited::new(body, MOST_ANSWER_BYTES).collect().await.map_err(broken)?;
    let trailers = collected.trailers().cloned();
    let body = collected.to_bytes();
    Ok(match protocol {
        Protocol::Http => answer::http(parts.status, &parts.headers, &body, Timestamp::now()),
        Protocol::Grpc => {
            answer::grpc(parts.status, &parts.headers, trailers.as_ref(), &body, Timestamp::now())
        }
    })
}

/// hyper says what went wrong, its cause why.
fn failure(error: &hyper::Error) -> Failure {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    Failure::Unanswered(why)
}

/// The next request says it, if there is one.
fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        log::debug!("the connection to the OTLP receiver ended: {error}");
    }
}
