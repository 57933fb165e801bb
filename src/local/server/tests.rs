//! Over the wire: TLS, faults, time, InvokeFunction.

use std::collections::BTreeMap;

use hyper::client::conn::http1::{SendRequest, handshake};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;
use crate::local::fc::Function;
use crate::local::world::tests::lab::{Lab, small};
use crate::local::world::{Fault, Mishap, Settings};

struct Wire {
    server: Server,
    lab: Lab,
    effects: mpsc::UnboundedReceiver<Effect>,
}

impl Wire {
    async fn new(settings: Settings) -> Self {
        let (sender, effects) = mpsc::unbounded_channel();
        let mut lab = Lab::new(Settings::default());
        let cloud = Cloud::new(small(settings), Clock::system(), sender);
        lab.now = cloud.look(|_, now| now);
        Self { server: Server::on_loopback(cloud).await.unwrap(), lab, effects }
    }

    async fn connect(&self, name: &'static str, ca_pem: &str) -> std::io::Result<SendRequest<Full<Bytes>>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
        let stream = TcpStream::connect(self.server.address).await?;
        let stream = tls.connect(ServerName::try_from(name).unwrap(), stream).await?;
        let (http, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(http)
    }

    async fn send(
        &self,
        http: &mut SendRequest<Full<Bytes>>,
        call: Call,
    ) -> Result<(u16, BTreeMap<String, String>, String), hyper::Error> {
        let mut request = hyper::Request::builder()
            .method(call.method.as_str())
            .uri(format!("{}?{}", call.path, call.query));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let answer = http.send_request(request.body(Full::new(call.body.into())).unwrap()).await?;
        let headers =
            answer.headers().iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, headers, String::from_utf8(body.to_vec()).unwrap()))
    }
}

#[tokio::test]
async fn only_its_own_ca_vouches_for_it_and_a_parked_connection_stays_open() {
    let mut wire = Wire::new(Settings::default()).await;
    let stranger = Wire::new(Settings::default()).await;
    assert!(wire.connect("localhost", &stranger.server.ca_pem).await.is_err());
    assert!(wire.connect("example.com", &wire.server.ca_pem).await.is_err());
    let mut http = wire.connect("ecs-vpc.cn-hangzhou.aliyuncs.com", &wire.server.ca_pem).await.unwrap();
    for _ in 0..2 {
        let call = wire.lab.request("DescribeRegions", &[]);
        let (status, headers, body) = wire.send(&mut http, call).await.unwrap();
        assert!(status == 200 && body.contains("cn-hangzhou") && headers["date"].ends_with("GMT"), "{body}");
        assert!(body.contains(&headers["x-acs-request-id"]));
        assert!(body.starts_with("<?xml"), "nobody asked for JSON: {body}");
    }
}

#[tokio::test]
async fn what_falls_due_is_handed_out_without_any_further_call() {
    let mut wire =
        Wire::new(Settings { visible_after: Duration::from_millis(50), ..Settings::default() }).await;
    let call = wire.lab.request("CreateSnapshotGroup", &[("RegionId", "cn-hangzhou"), ("InstanceId", "i-1")]);
    let mut http = wire.connect("localhost", &wire.server.ca_pem).await.unwrap();
    assert_eq!(wire.send(&mut http, call).await.unwrap().0, 200);
    for _ in 0..2 {
        let Some(Effect::CloneDisk { snapshot_id, .. }) = wire.effects.recv().await else { panic!("no cut") };
        wire.server.cloud.report(Happening::DiskCloned { snapshot_id });
    }
    Clock::system().sleep(Duration::from_millis(60)).await;
    let call = wire.lab.request("DescribeSnapshotGroups", &[("RegionId", "cn-hangzhou")]);
    assert!(wire.send(&mut http, call).await.unwrap().2.contains("ssg-bp1"));
}

#[tokio::test]
async fn faults_reach_the_wire() {
    let fault = |nth, what| Fault { action: "DescribeRegions".into(), nth: Some(nth), what };
    let late = Duration::from_millis(300);
    let faults = vec![fault(1, Mishap::DropReply), fault(2, Mishap::Delay(late)), fault(3, Mishap::Hang)];
    let mut wire = Wire::new(Settings { faults, ..Settings::default() }).await;
    let clock = Clock::system();
    let mut http = wire.connect("localhost", &wire.server.ca_pem).await.unwrap();
    let call = wire.lab.request("DescribeRegions", &[]);
    assert!(wire.send(&mut http, call).await.is_err(), "closed without an answer");
    let mut http = wire.connect("localhost", &wire.server.ca_pem).await.unwrap();
    let (call, begun) = (wire.lab.request("DescribeRegions", &[]), clock.now());
    assert_eq!(wire.send(&mut http, call).await.unwrap().0, 200);
    assert!(clock.now().duration_since(begun).unsigned_abs() >= late);
    let call = wire.lab.request("DescribeRegions", &[]);
    tokio::select! {
        answer = wire.send(&mut http, call) => panic!("{answer:?}"),
        () = clock.sleep(late) => {}
    }
}

#[tokio::test]
async fn invoke_function_is_signed_authorized_and_answered_as_the_platform_does() {
    let mut wire = Wire::new(Settings::default()).await;
    let path = "/2023-03-30/functions/appsnap/invocations";
    let mut http = wire.connect("localhost", &wire.server.ca_pem).await.unwrap();
    let call = wire.lab.invocation(path, b"{}", &[]);
    let (status, _, body) = wire.send(&mut http, call).await.unwrap();
    assert!(status == 404 && body.contains("FunctionNotFound"), "{body}");
    let function = Function { bootstrap: "/bin/false".into(), max_async_retries: 0, ..Function::default() };
    let fc = Fc::new(function, wire.server.cloud.clone(), Clock::system());
    wire.server.serve_function(fc.clone());
    let call = wire.lab.invocation(path, b"{}", &[]);
    let (status, headers, body) = wire.send(&mut http, call).await.unwrap();
    assert_eq!((status, headers["x-fc-error-type"].as_str()), (200, "FunctionNotStarted"), "{body}");
    for wanted in [202, 409] {
        let headers = [("x-fc-invocation-type", "Async"), ("x-fc-async-task-id", "task")];
        let call = wire.lab.invocation(path, b"{}", &headers);
        assert_eq!(wire.send(&mut http, call).await.unwrap().0, wanted);
    }
    assert_eq!(fc.finish_queue().await.len(), 1);
    let mut call = wire.lab.invocation(path, b"{}", &[]);
    call.body = b"[]".to_vec();
    assert!(wire.send(&mut http, call).await.unwrap().2.contains("SignatureDoesNotMatch"));
}
