//! The local cloud over HTTPS on loopback: parses requests, lets the [`World`] decide, carries answers back and
//! hands effects out. Everything that waits is here; everything that decides is in the world.

#[cfg(test)]
mod tests;
mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, DATE};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::fc::Fc;
use super::world::{ApiError, Call, Delivery, Effect, Happening, World};
use crate::clock::Clock;

/// Bodies above this are cut off with 413 (the limit of InvokeFunction).
const BODY_LIMIT: usize = 32 << 20;

/// A handle on the cloud's state, cheap to clone; whoever carries out effects reports through it.
#[derive(Clone)]
pub struct Cloud(Arc<Shared>);

struct Shared {
    world: Mutex<World>,
    clock: Clock,
    effects: mpsc::UnboundedSender<Effect>,
    changed: Notify,
}

impl Cloud {
    /// A cloud whose effects go to `effects`.
    pub fn new(world: World, clock: Clock, effects: mpsc::UnboundedSender<Effect>) -> Self {
        Self(Arc::new(Shared { world: Mutex::new(world), clock, effects, changed: Notify::new() }))
    }

    /// Answers a call that did not come over HTTP.
    pub fn handle(&self, call: &Call) -> super::world::Reply {
        self.with(|world, now| world.handle(now, call))
    }

    /// Carries out a call of a simulated guest with its role's rights.
    ///
    /// # Errors
    /// As the API answers.
    pub fn act(
        &self,
        role_arn: &str,
        action: &str,
        region_id: &str,
        pairs: &[(&str, &str)],
    ) -> Result<serde_json::Value, ApiError> {
        let all = [&[("RegionId", region_id)], pairs].concat();
        let all = all.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.with(|world, now| world.act(now, role_arn, action, all))
    }

    /// Tells what happened.
    pub fn report(&self, happening: Happening) {
        self.with(|world, now| ((), world.report(now, happening)));
    }

    /// Looks into the state or changes it.
    pub fn look<T>(&self, use_it: impl FnOnce(&mut World, Timestamp) -> T) -> T {
        self.with(|world, now| (use_it(world, now), Vec::new()))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut World, Timestamp) -> (T, Vec<Effect>)) -> T {
        let out = self.with_quietly(use_it);
        self.0.changed.notify_one(); // something may be due earlier now
        out
    }

    /// Does what falls due, for ever.
    async fn keep_time(self) {
        loop {
            let next = self.with_quietly(|world, now| {
                let effects = world.due(now);
                (world.next_due(), effects)
            });
            let wait = match next {
                None => Duration::from_secs(3600),
                Some(at) => at.duration_since(self.0.clock.now()).try_into().unwrap_or(Duration::ZERO),
            };
            tokio::select! {
                () = self.0.clock.sleep(wait) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    fn with_quietly<T>(&self, use_it: impl FnOnce(&mut World, Timestamp) -> (T, Vec<Effect>)) -> T {
        let mut world = self.0.world.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (out, effects) = use_it(&mut world, self.0.clock.now());
        for effect in effects {
            // Nobody listens any more when the cloud shuts down.
            let _ = self.0.effects.send(effect);
        }
        out
    }
}

/// Set once the function is deployed, which takes the server's address; not in [`Cloud`], which it refers to.
type Functions = Arc<OnceLock<Fc>>;

/// A cloud that listens; it stops when dropped.
pub struct Server {
    /// Where.
    pub address: SocketAddr,
    /// The CA that clients have to trust, in PEM.
    pub ca_pem: String,
    /// Its state.
    pub cloud: Cloud,
    function: Functions,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Listens on `ip` at a free port (`port` 0) or at `port`. `names` go into the certificate besides localhost,
    /// 127.0.0.1 and the products' hosts, e.g. an address that guests use.
    ///
    /// # Errors
    /// The address cannot be bound, or keys cannot be made.
    pub async fn start(cloud: Cloud, ip: IpAddr, port: u16, names: &[String]) -> std::io::Result<Self> {
        let (config, ca_pem) =
            tls::throw_away(&cloud.look(|world, _| world.regions()), names).map_err(std::io::Error::other)?;
        let listener = TcpListener::bind((ip, port)).await?;
        let address = listener.local_addr()?;
        let (mut tasks, function) = (JoinSet::new(), Functions::default());
        tasks.spawn(accept(listener, TlsAcceptor::from(config), cloud.clone(), function.clone()));
        tasks.spawn(cloud.clone().keep_time());
        Ok(Self { address, ca_pem, cloud, function, _tasks: tasks })
    }

    /// As [`Server::start`] on 127.0.0.1, any port.
    ///
    /// # Errors
    /// As there.
    pub async fn on_loopback(cloud: Cloud) -> std::io::Result<Self> {
        Self::start(cloud, Ipv4Addr::LOCALHOST.into(), 0, &[]).await
    }

    /// Lets InvokeFunction reach this function; the first one stays.
    pub fn serve_function(&self, function: Fc) {
        // A second one is refused by OnceLock; there is one function in the local cloud.
        let _ = self.function.set(function);
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, cloud: Cloud, function: Functions) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, tls.clone(), cloud.clone(), function.clone())); }
                // Out of file descriptors, most likely: wait for connections to end.
                Err(_) => cloud.0.clock.sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, cloud: Cloud, function: Functions) {
    // What is wrong with a client's handshake or connection is the client's to notice.
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(|request| answer(request, cloud.clone(), function.clone()));
    let mut http = hyper::server::conn::http1::Builder::new();
    // A request may stay parked for minutes: the guest opens its connection before the freeze.
    let _ = http
        .keep_alive(true)
        .title_case_headers(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Fails where the connection has to be closed without an answer.
async fn answer(
    request: hyper::Request<Incoming>,
    cloud: Cloud,
    function: Functions,
) -> Result<hyper::Response<Full<Bytes>>, std::io::Error> {
    let call = match receive(request).await {
        Ok(call) => call,
        Err(status) => return Ok(respond(status, &[], Bytes::new(), &cloud)),
    };
    if call.path.starts_with("/2023-03-30/") {
        let (status, headers, body) = super::fc::api::answer(&cloud, function.get(), &call).await;
        return Ok(respond(status, &headers, body.into(), &cloud));
    }
    let reply = cloud.handle(&call);
    match reply.delivery {
        Delivery::Now => {}
        Delivery::After(late) => cloud.0.clock.sleep(late).await,
        Delivery::Hang => std::future::pending().await,
        Delivery::Drop => return Err(std::io::Error::other("a fault on demand: no answer")),
    }
    let (kind, text) = reply.rendered();
    let request_id = reply.body["RequestId"].as_str().unwrap_or_default().to_owned();
    let headers = [("content-type".to_owned(), kind.to_owned()), ("x-acs-request-id".to_owned(), request_id)];
    Ok(respond(reply.status, &headers, text.into(), &cloud))
}

async fn receive(request: hyper::Request<Incoming>) -> Result<Call, u16> {
    let (head, body) = request.into_parts();
    let mut headers = Vec::new();
    for (name, value) in &head.headers {
        // Signatures are over text; other bytes cannot be part of one.
        headers.push((
            name.as_str().to_owned(),
            String::from_utf8(value.as_bytes().to_vec()).map_err(|_| 400u16)?,
        ));
    }
    let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|_| 413u16)?.to_bytes().to_vec();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    Ok(Call { method: head.method.to_string(), path, query, headers, body })
}

fn respond(
    status: u16,
    headers: &[(String, String)],
    body: Bytes,
    cloud: &Cloud,
) -> hyper::Response<Full<Bytes>> {
    let date = cloud.0.clock.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut builder = hyper::Response::builder().status(status).header(DATE, date);
    if !headers.iter().any(|(name, _)| name == "content-type") {
        builder = builder.header(CONTENT_TYPE, "application/json;charset=utf-8");
    }
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(body)).unwrap_or_else(|_| hyper::Response::new(Full::default()))
}
