//! The floor: a handler that does nothing, on the HTTP stack that the webhook uses. Whatever a webhook costs beyond it is
//! the webhook's own. It may send a fixed patch, so that one sees what a patch costs whoever receives it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::post;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::Failure;

/// Serves until it is killed. `patch` is sent with every answer, if there is one; it is in base64.
pub async fn serve(address: SocketAddr, tls: &Path, patch: Option<String>) -> Result<(), Failure> {
    let certificate = CertificateDer::from_pem_file(tls.join("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_file(tls.join("tls.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let patch =
        patch.map_or_else(String::new, |patch| format!(r#","patchType":"JSONPatch","patch":"{}""#, patch.trim()));
    let router = Router::new().route("/mutate", post(allow)).with_state(Arc::from(patch));
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            // A client that goes away is no error here.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Admits whatever it is. An answer must name the request's UID, so that much is read.
async fn allow(State(patch): State<Arc<str>>, body: Bytes) -> impl IntoResponse {
    let uid = std::str::from_utf8(&body[..body.len().min(512)]).ok().and_then(|start| {
        let (_, rest) = start.split_once(r#""uid":""#)?;
        rest.split_once('"').map(|(uid, _)| uid)
    });
    let answer = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{}","allowed":true{patch}}}}}"#,
        uid.unwrap_or_default()
    );
    ([(header::CONTENT_TYPE, "application/json")], answer)
}
